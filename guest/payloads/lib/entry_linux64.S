# SPDX-License-Identifier: Apache-2.0
# Entry by the 64-bit Linux boot protocol (Linux Documentation/arch/x86/boot.rst, "64-bit Boot Protocol").
#
# The loader has already switched to long mode with an identity map of the kernel, boot_params and the command line.
# RSI = address of struct boot_params; CS is selector 0x10, the data segments 0x18; interrupts are off; RSP is not promised.

    .text
    .code64
    .globl _start
_start:
    cli
    cld
    xor %edi, %edi
    jmp reload_long_mode

    .section .note.GNU-stack, "", @progbits
