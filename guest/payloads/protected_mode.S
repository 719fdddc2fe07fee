# SPDX-License-Identifier: Apache-2.0
# Lesson: 32-bit protected mode, as a Multiboot loader hands it over.
#
# Shows: what a segment descriptor does. The loader left flat segments; we load a descriptor table of our
#   own with one segment that starts at a message, so that offset 0 of it is the message's first byte.
# Manual: Intel SDM vol. 3, 3.4.5 "Segment Descriptors" and 9.9.1 "Switching to Protected Mode"; Multiboot
#   Specification 0.6.96, 3.2 "Machine state".
# See: two lines and the exit status 33.

    .include "multiboot_header.inc"

    .set CONSOLE, 0xE9
    .set EXIT, 0xF4

    .text
    .code32
    .globl _start
_start:
    cli
    cld
    cmp $0x2BADB002, %eax               # what a Multiboot loader leaves in EAX
    jne failed
    mov %cr0, %eax
    and $0x80000001, %eax
    cmp $1, %eax                        # CR0.PE on, CR0.PG off
    jne failed
    mov $stack_top, %esp

    mov $entered, %esi
    mov $entered_end - entered, %ecx
    mov $CONSOLE, %edx
    rep outsb

    # A base address does not fit one relocation (it is split over three fields), so it is filled in here.
    mov $message, %eax
    mov %ax, message_segment + 2
    shr $16, %eax
    mov %al, message_segment + 4
    mov %ah, message_segment + 7
    lgdt gdt_pointer
    ljmp $0x08, $1f
1:  mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $0x18, %eax
    mov %eax, %fs

    xor %esi, %esi                      # FS:0 is the message
2:  mov %fs:(%esi), %al
    out %al, %dx
    inc %esi
    cmp $message_end - message, %esi
    jne 2b

    mov $0x10, %al
    out %al, $EXIT
failed:
    mov $0x11, %al
    out %al, $EXIT
3:  hlt
    jmp 3b

    .section .rodata
entered:
    .ascii "protected mode, paging off\n"
entered_end:
message:
    .ascii "offset 0 of a segment of our own\n"
message_end:

    .data
    .balign 8
gdt:
    .quad 0
    .quad 0x00CF9B000000FFFF            # 0x08: code, base 0, 4 GiB
    .quad 0x00CF93000000FFFF            # 0x10: data, base 0, 4 GiB
message_segment:
    .quad 0x00409300000000FF            # 0x18: data, base to be filled in, 256 bytes
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt

    .bss
    .balign 16
    .skip 1024
stack_top:

    .section .note.GNU-stack, "", @progbits
