# SPDX-License-Identifier: Apache-2.0
# Entry by Multiboot 1 (Multiboot Specification 0.6.96, 3.2 "Machine state"): 32-bit protected mode without paging, EAX =
# 0x2BADB002, EBX = address of the information structure, flat segments, interrupts off, no stack.

    .include "multiboot_header.inc"

    .text
    .code32
    .globl _start
_start:
    mov %eax, %edi
    mov %ebx, %esi
    jmp enter_long_mode

    .section .note.GNU-stack, "", @progbits
