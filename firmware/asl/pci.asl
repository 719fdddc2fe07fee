// SPDX-License-Identifier: Apache-2.0
//
// The PCI host bridge: bus 0, its windows for BARs, and how interrupt pins are wired. The ECAM is told by the MCFG
// table, and reserved by acpi.cpp.
DefinitionBlock ("", "SSDT", 2, "VMM", "PCI", 1)
{
    Scope (\_SB)
    {
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A08"))  // PCI Express
            Name (_CID, EisaId ("PNP0A03"))  // also to be driven as PCI
            Name (_UID, 0)
            // Linux reads segment 0 through ports 0xCF8/0xCFC wherever they answer, two exits an access, and any
            // other segment through the MCFG's memory, where reads cost none.
            Name (_SEG, 1)
            Name (_BBN, 0)
            Name (_CRS, ResourceTemplate ()
            {
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0, 0, 0, 0, 1)
                IO (Decode16, 0xCF8, 0xCF8, 1, 8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                    0, 0xC000, 0xFFFF, 0, 0x4000)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                    0, 0xC0000000, 0xDFFFFFFF, 0, 0x20000000)
            })

            // Which features of PCI Express the guest's system controls (PCI Firmware 3.2, 4.5.1): none is there to be
            // controlled, so none is granted.
            Method (_OSC, 4, Serialized)
            {
                CreateDWordField (Arg3, 0, STAT)
                If (Arg0 != ToUUID ("33db4d5b-1ff7-401c-9657-7441c03dd766"))
                {
                    STAT |= 0x04  // unrecognized UUID
                    Return (Arg3)
                }
                CreateDWordField (Arg3, 8, CTRL)
                If (CTRL != 0)
                {
                    STAT |= 0x10  // capabilities masked
                    CTRL = 0
                }
                Return (Arg3)
            }

            // Pin A of device N is wired to GSI 16 + (N & 3); no device has another pin.
            Name (_PRT, Package ()
            {
                Package () { 0x0000FFFF, 0, 0, 16 },
                Package () { 0x0001FFFF, 0, 0, 17 },
                Package () { 0x0002FFFF, 0, 0, 18 },
                Package () { 0x0003FFFF, 0, 0, 19 },
                Package () { 0x0004FFFF, 0, 0, 16 },
                Package () { 0x0005FFFF, 0, 0, 17 },
                Package () { 0x0006FFFF, 0, 0, 18 },
                Package () { 0x0007FFFF, 0, 0, 19 },
                Package () { 0x0008FFFF, 0, 0, 16 },
                Package () { 0x0009FFFF, 0, 0, 17 },
                Package () { 0x000AFFFF, 0, 0, 18 },
                Package () { 0x000BFFFF, 0, 0, 19 },
                Package () { 0x000CFFFF, 0, 0, 16 },
                Package () { 0x000DFFFF, 0, 0, 17 },
                Package () { 0x000EFFFF, 0, 0, 18 },
                Package () { 0x000FFFFF, 0, 0, 19 },
                Package () { 0x0010FFFF, 0, 0, 16 },
                Package () { 0x0011FFFF, 0, 0, 17 },
                Package () { 0x0012FFFF, 0, 0, 18 },
                Package () { 0x0013FFFF, 0, 0, 19 },
                Package () { 0x0014FFFF, 0, 0, 16 },
                Package () { 0x0015FFFF, 0, 0, 17 },
                Package () { 0x0016FFFF, 0, 0, 18 },
                Package () { 0x0017FFFF, 0, 0, 19 },
                Package () { 0x0018FFFF, 0, 0, 16 },
                Package () { 0x0019FFFF, 0, 0, 17 },
                Package () { 0x001AFFFF, 0, 0, 18 },
                Package () { 0x001BFFFF, 0, 0, 19 },
                Package () { 0x001CFFFF, 0, 0, 16 },
                Package () { 0x001DFFFF, 0, 0, 17 },
                Package () { 0x001EFFFF, 0, 0, 18 },
                Package () { 0x001FFFFF, 0, 0, 19 }
            })
        }
    }
}
