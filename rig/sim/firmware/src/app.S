@ Start of the app, and its interrupt entry.
    .include "vectors.inc"

    .section .vectors, "ax"
    .arm
    .global start
start:
    vectors reset, start, start, start, start, start, start, start    @ the core never comes here: its vectors are at 0

reset:
    stacks
    ldr     r0, =bss_start
    ldr     r1, =bss_end
    mov     r2, #0
clear:
    cmp     r0, r1
    strlo   r2, [r0], #4
    blo     clear
    bl      app
    mrs     r0, cpsr
    bic     r0, r0, #0x80
    msr     cpsr_c, r0              @ interrupts on: everything else happens in ticks
    ldr     r1, =calibrated
working:                            @ the radio is calibrated by the core, which is busy all the while; so is this one
    ldr     r0, [r1]
    cmp     r0, #0
    beq     working
idle:
    b       idle

@ The bootloader's vector has pushed r0 and r1 on this mode's stack.
    .global irq_entry
irq_entry:
    pop     {r0, r1}
    sub     lr, lr, #4
    push    {r0-r3, r12, lr}
    bl      on_irq
    ldmfd   sp!, {r0-r3, r12, pc}^
    .ltorg
