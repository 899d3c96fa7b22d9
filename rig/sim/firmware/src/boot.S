@ Start of the bootloader: vectors, the hand-over of exceptions to whoever filled in the handler table, reset.
    .include "vectors.inc"

    .equ    HANDLERS, 0x00400000

    .section .vectors, "ax"
    .arm
    .global start
start:
    vectors reset, on_undefined, on_swi, on_prefetch, on_data, on_reserved, on_irq, on_fiq

    .asciz  "rig-boot 1"            @ for whoever looks into the file; and no app has its reset code as far in
    .balign 0x20

@ Each exception pushes r0 and r1 on the new mode's stack and goes where its word in RAM says. The handler pops them.
@ The stock bootloader of the N does the same, and its apps rely on it.
    .macro hand_over name, slot
\name:
    push    {r0, r1}
    ldr     r0, =HANDLERS + \slot
    ldr     r0, [r0]
    bx      r0
    .endm

reset:
    stacks
    b       prepare

    .section .text.handlers, "ax"
    hand_over on_irq, 0x00
    hand_over on_fiq, 0x04
    hand_over on_swi, 0x08
    hand_over on_undefined, 0x0C
    hand_over on_prefetch, 0x10
    hand_over on_data, 0x14
    hand_over on_reserved, 0x18

@ What the table holds until an app puts its own handlers there.
default_irq:
    mov     r0, #0
    b       anomaly
default_fiq:
    mov     r0, #1
    b       anomaly
default_undefined:
    mov     r0, #2
    b       anomaly
default_prefetch:
    mov     r0, #3
    b       anomaly
default_data:
    mov     r0, #4
    b       anomaly
default_swi:
    mov     r0, #5
    b       anomaly
default_reserved:
    mov     r0, #6
    b       anomaly

prepare:
    adr     r0, defaults
    ldr     r1, =HANDLERS
    ldmia   r0, {r2-r8}
    stmia   r1, {r2-r8}             @ seven words; the eighth, 0x40001C, is an app's own mark and must survive
    bl      boot
    ldr     pc, =0x00010000

defaults:
    .word   default_irq, default_fiq, default_swi, default_undefined, default_prefetch, default_data, default_reserved
    .ltorg
