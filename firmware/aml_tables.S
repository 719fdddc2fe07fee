// SPDX-License-Identifier: Apache-2.0
//
// The tables of asl/ as iasl compiled them, from vmm_aml_NAME up to vmm_aml_NAME_end.

.macro table name
    .globl vmm_aml_\name, vmm_aml_\name\()_end
vmm_aml_\name:
    .incbin "\name\().aml"
vmm_aml_\name\()_end:
.endm

    .section .rodata
    table dsdt
    table com1
    table pci
    table pvpanic
    table rtc

    .section .note.GNU-stack, "", @progbits
