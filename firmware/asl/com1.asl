// SPDX-License-Identifier: Apache-2.0
DefinitionBlock ("", "SSDT", 2, "VMM", "COM1", 1)
{
    Scope (\_SB)
    {
        Device (COM1)
        {
            Name (_HID, EisaId ("PNP0501"))  // 16550A-compatible
            Name (_UID, 1)
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x3F8, 0x3F8, 1, 8)
                IRQNoFlags () { 4 }
            })
        }
    }
}
