// SPDX-License-Identifier: Apache-2.0
//
// What every machine has. Parts that may be absent are tables of their own beside this file; lists of varying length
// (processors, virtio devices over MMIO) are emitted by acpi.cpp.
DefinitionBlock ("", "DSDT", 2, "VMM", "MACHINE", 1)
{
    // Soft off. The first two elements are SLP_TYP for PM1a and PM1b (ACPI 6.5, 7.4.2).
    Name (\_S5, Package () { 0, 0, 0, 0 })
}
