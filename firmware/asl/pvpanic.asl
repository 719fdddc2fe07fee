// SPDX-License-Identifier: Apache-2.0
DefinitionBlock ("", "SSDT", 2, "VMM", "PVPANIC", 1)
{
    Scope (\_SB)
    {
        Device (PEVT)
        {
            Name (_HID, "QEMU0001")
            Name (_CRS, ResourceTemplate () { IO (Decode16, 0x505, 0x505, 1, 1) })
        }
    }
}
