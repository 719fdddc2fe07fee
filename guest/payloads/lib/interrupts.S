# SPDX-License-Identifier: Apache-2.0
# One stub of 16 bytes for each vector: makes every frame look alike (some exceptions push an error code, SDM vol. 3,
# table 6-1), notes the vector and joins the common path to dispatch_interrupt().

    .text
    .code64
    .globl interrupt_stubs
    .balign 16
interrupt_stubs:
    .set vector, 0
    .rept 64
    .balign 16
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30)
    pushq $0
    .endif
    pushq $vector
    jmp common
    .set vector, vector + 1
    .endr

common:
    push %rax
    push %rcx
    push %rdx
    push %rsi
    push %rdi
    push %r8
    push %r9
    push %r10
    push %r11
    cld
    mov %rsp, %rdi
    mov %rsp, %rax                      # keep the frame while the stack is aligned for the call
    and $-16, %rsp
    push %rax
    push %rax
    call dispatch_interrupt
    mov (%rsp), %rsp
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rdi
    pop %rsi
    pop %rdx
    pop %rcx
    pop %rax
    add $16, %rsp                       # vector and error code
    iretq

    .section .note.GNU-stack, "", @progbits
