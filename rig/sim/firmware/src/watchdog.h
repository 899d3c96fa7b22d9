#pragma once

#include <stdint.h>

#include "chip.h"

/* Arms the watchdog, or feeds it. About 1 ms a unit; it resets the chip, RAM and flash stay. */
static inline void watchdog(uint16_t period)
{
    REG(ICU_CLOCK_OFF) &= ~CLOCK_WATCHDOG;
    REG(WATCHDOG) = 0x5A0000u | period;
    REG(WATCHDOG) = 0xA50000u | period;
}
