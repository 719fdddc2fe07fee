# SPDX-License-Identifier: Apache-2.0
# Entry by PVH, the "x86/HVM direct boot ABI" of Xen (docs/misc/pvh.pandoc).
#
# An ELF64 file says by the note XEN_ELFNOTE_PHYS32_ENTRY (type 18, name "Xen") at which physical address it wants to be
# entered in 32-bit protected mode without paging: EBX = address of struct hvm_start_info, flat segments, interrupts off.
# This is how a Linux vmlinux with CONFIG_PVH is started without its real-mode setup code.

    .section .note.pvh, "a", @note
    .balign 4
    .long 2f - 1f                       # length of the name, with its zero
    .long 4f - 3f                       # length of the value
    .long 18                            # XEN_ELFNOTE_PHYS32_ENTRY
1:  .asciz "Xen"
2:  .balign 4
3:  .quad pvh_entry
4:  .balign 4

    .text
    .code32
    .globl _start
_start:                                 # the ELF entry is for 64-bit loaders; this program has none
pvh_entry:
    xor %edi, %edi
    mov %ebx, %esi
    jmp enter_long_mode

    .section .note.GNU-stack, "", @progbits
