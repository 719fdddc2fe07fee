# SPDX-License-Identifier: Apache-2.0
# From 32-bit protected mode into long mode, and from there into C++.
#
# Intel SDM vol. 3, 9.8.5 "Initializing IA-32e Mode": with paging off, set CR4.PAE, load CR3 with a 4-level table, set
# EFER.LME, then CR0.PG. The processor is then in compatibility mode, and the far jump to a code segment with the L bit
# makes it 64-bit. AMD APM vol. 2, 14.6 "Enabling and Activating Long Mode" tells the same.
#
# In: EDI = magic, ESI = boot information (see boot.h).

    .code32
    .text
    .globl enter_long_mode
enter_long_mode:
    cli
    cld
    mov $boot_stack_top, %esp
    call load_long_mode
    ljmp $0x08, $1f
    .code64
1:  mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    jmp call_main

# The same for processors that INIT/SIPI started: they arrive from smp_trampoline.S in protected mode, flat segments,
# ESP = their own stack.
    .code32
    .globl enter_long_mode_ap
enter_long_mode_ap:
    call load_long_mode
    ljmp $0x08, $2f
    .code64
2:  mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %esp, %esp                      # the upper half of RSP is undefined after a mode switch
    call ap_main
3:  cli
    hlt
    jmp 3b

    .weak ap_main                       # only payloads that start other processors have one
ap_main:
    ret

# Entered in long mode by somebody else: take our own tables and segments instead of the loader's.
    .code64
    .globl reload_long_mode
reload_long_mode:
    mov $boot_stack_top, %esp
    mov $pml4, %eax
    mov %rax, %cr3
    lgdt gdt_pointer
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    pushq $0x08
    pushq $call_main
    lretq

call_main:
    mov $boot_stack_top - 16, %esp      # struct Boot, on a 16-byte boundary as the ABI asks at a call
    mov %edi, 0(%rsp)
    mov %esi, %esi                      # clear the upper half
    mov %rsi, 8(%rsp)
    mov %rsp, %rdi
    call payload_main
1:  cli
    hlt
    jmp 1b

    .code32
load_long_mode:
    lgdt gdt_pointer
    mov %cr4, %eax
    or $0x20, %eax                      # CR4.PAE
    mov %eax, %cr4
    mov $pml4, %eax
    mov %eax, %cr3
    mov $0xC0000080, %ecx               # IA32_EFER
    rdmsr
    or $0x100, %eax                     # EFER.LME
    wrmsr
    mov %cr0, %eax
    or $0x80000001, %eax                # CR0.PG, CR0.PE
    mov %eax, %cr0
    ret

    .data
    .balign 8
    .globl gdt_pointer
    .globl gdt
gdt:
    .quad 0
    .quad 0x00AF9B000000FFFF            # 0x08: code, 64-bit
    .quad 0x00CF93000000FFFF            # 0x10: data
    .quad 0x00CF9B000000FFFF            # 0x18: code, 32-bit
gdt_end:
    .balign 4
    .word 0                             # so that the base below is aligned
gdt_pointer:
    .word gdt_end - gdt - 1
    .quad gdt

# The first 4 GiB mapped to themselves in 2 MiB pages, writable. Built by the assembler, so it costs no instructions:
# SDM vol. 3, 4.5.4 (a page-directory entry that maps a 2 MiB page: present, writable, PS).
    .balign 4096
    .globl pml4
pml4:
    .quad pdpt + 3
    .fill 511, 8, 0
pdpt:
    .quad directories + 0x0000 + 3
    .quad directories + 0x1000 + 3
    .quad directories + 0x2000 + 3
    .quad directories + 0x3000 + 3
    .fill 508, 8, 0
directories:
    .set page, 0
    .rept 2048
    .quad page + 0x83
    .set page, page + 0x200000
    .endr

    .bss
    .balign 16
boot_stack:
    .skip 16384
boot_stack_top:

    .section .note.GNU-stack, "", @progbits
