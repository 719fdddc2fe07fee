# SPDX-License-Identifier: Apache-2.0
# Lesson: real mode, the state every x86 processor wakes up in.
#
# Shows: 16-bit code at linear address 0x7C00 that writes to a port, how segment:offset becomes an
#   address, and a software interrupt through the vector table at address 0.
# Manual: Intel SDM vol. 3, chapter 20 "8086 Emulation" (20.1.1 address translation, 20.1.4 interrupts),
#   or AMD APM vol. 2, 14.1 "Processor Initialization". OUTS is in SDM vol. 2.
# See: three lines on the debug console (port 0xE9), then the exit status 33 (value 0x10 at port 0xF4).
#
# The file is loaded at 0x7C00 and entered with CS:IP = 0000:7C00, as a PC BIOS does with the first sector
# of a disk; it has the signature of a boot sector, so the same 512 bytes also start from a disk under a
# BIOS.

    .set CONSOLE, 0xE9
    .set EXIT, 0xF4
    .set PASS, 0x10
    .set FAIL, 0x11
    .set OUR_VECTOR, 0x60               # free for user programs since the first PC

    .code16
    .text
    .globl _start
_start:
    ljmp $0, $1f                        # some BIOSes enter at 07C0:0000, the same byte by another name
1:  xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $0x7C00, %sp                    # the stack grows down from the code
    cld

    # One OUTSB with REP: CX bytes from DS:SI to port DX.
    mov $hello, %si
    mov $hello_end - hello, %cx
    mov $CONSOLE, %dx
    rep outsb

    # The same memory through another segment: 0x07C0 * 16 + offset.
    mov $0x07C0, %ax
    mov %ax, %ds
    mov $alias - _start, %si
    mov $alias_end - alias, %cx
    rep outsb
    xor %ax, %ax
    mov %ax, %ds

    # The interrupt vector table: four bytes for each vector, offset then segment, from address 0.
    movw $handler, OUR_VECTOR * 4
    movw $0, OUR_VECTOR * 4 + 2
    xor %bx, %bx
    int $OUR_VECTOR
    cmp $0x1234, %bx                    # the handler ran and IRET came back here
    mov $FAIL, %al
    jne 2f
    mov $PASS, %al
2:  out %al, $EXIT
3:  hlt
    jmp 3b

handler:
    mov $interrupt, %si
    mov $interrupt_end - interrupt, %cx
    rep outsb
    mov $0x1234, %bx
    iret

hello:
    .ascii "hello from real mode\n"
hello_end:
alias:
    .ascii "0000:7Cxx is 07C0:00xx\n"
alias_end:
interrupt:
    .ascii "int 0x60 through the vector table\n"
interrupt_end:

    .org 510
    .word 0xAA55
