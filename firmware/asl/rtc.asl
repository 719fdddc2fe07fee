// SPDX-License-Identifier: Apache-2.0
DefinitionBlock ("", "SSDT", 2, "VMM", "RTC", 1)
{
    Scope (\_SB)
    {
        Device (RTC)
        {
            Name (_HID, EisaId ("PNP0B00"))
            // No interrupt: the clock has no alarm.
            Name (_CRS, ResourceTemplate () { IO (Decode16, 0x70, 0x70, 1, 2) })
        }
    }
}
