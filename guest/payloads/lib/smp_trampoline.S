# SPDX-License-Identifier: Apache-2.0
# What a processor executes first after a start-up IPI: 16-bit real mode, CS:IP = 0x0800:0000 (Intel SDM vol. 3, 8.4.3).
# Copied to 0x8000 by start_processors(); the rest of it runs in place, above 1 MiB.

    .set STACK_SIZE, 8192

    .text
    .code16
    .globl smp_trampoline
    .globl smp_trampoline_end
smp_trampoline:
    cli
    cld
    mov %cs, %ax                        # our own page, wherever it was copied to
    mov %ax, %ds
    lgdtl pointer - smp_trampoline
    mov %cr0, %eax
    or $1, %eax                         # CR0.PE
    mov %eax, %cr0
    ljmpl $0x18, $smp_protected
    .balign 4
    .word 0
pointer:
    .word 4 * 8 - 1
    .long gdt
smp_trampoline_end:

    .code32
smp_protected:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $1, %edi
    lock xadd %edi, smp_arrived
    inc %edi                            # the boot processor is 0
    cmp $64, %edi
    jae 1f
    mov %edi, %eax
    imul $STACK_SIZE, %eax
    lea stacks(%eax), %esp              # processor 1 has [stacks, stacks + STACK_SIZE)
    jmp enter_long_mode_ap
1:  hlt
    jmp 1b

    .bss
    .balign 16
stacks:
    .skip 64 * STACK_SIZE

    .section .note.GNU-stack, "", @progbits
