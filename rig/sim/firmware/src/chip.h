/* Registers of the BK7231N that this firmware touches. Source: the public Beken SDK's driver headers. */
#pragma once

#include <stdint.h>

#define REG(address) (*(volatile uint32_t *)(address))
#define BIT(n) (1u << (n))

/* Where the bootloader's exception vectors look for handlers (one word each), and the IRQ bits of the ICU. */
#define HANDLER_IRQ 0x00400000

#define ICU_CLOCK_SELECT 0x00802000 /* 1 = 26 MHz */
#define ICU_CLOCK_OFF 0x00802008    /* 1 = clock off */
#define ICU_IRQ_ENABLE 0x00802040
#define ICU_GLOBAL_ENABLE 0x00802044
#define ICU_IRQ_STATUS 0x0080204C
#define CLOCK_UART2 BIT(1)
#define CLOCK_WATCHDOG BIT(8)
#define CLOCK_TIMERS_32K BIT(21)
#define IRQ_TIMER BIT(8)

#define GPIO_P0 0x00802800
#define GPIO_P1 0x00802804
#define GPIO_FUNCTION 0x00802880 /* two bits a pin; 0 at P0 and P1 is UART2 */
#define GPIO_FUNCTION_PULL_UP 0x78

#define UART2_CONFIG 0x00802200
#define UART2_FIFO_CONFIG 0x00802204
#define UART2_FIFO_STATUS 0x00802208
#define UART2_PORT 0x0080220C
#define UART_TX_EMPTY BIT(17)
#define UART_WRITE_READY BIT(20)

#define TIMER3_PERIOD 0x00802A40 /* 32 kHz */
#define TIMER_B_CONTROL 0x00802A4C
#define TIMER3_ENABLE BIT(0)
#define TIMER3_FLAG BIT(7) /* write 1 to clear */

#define WATCHDOG 0x00802900

#define CHIP_ID 0x00800000
#define DEVICE_ID 0x00800004
#define RETENTION 0x00800150 /* 15:0 ours, 16 set by a watchdog reset */
#define RETENTION_WATCHDOG BIT(16)

#define FLASH_OPERATE 0x00803000 /* 23:0 physical address, 28:24 operation */
#define FLASH_WRITE_DATA 0x00803004
#define FLASH_READ_DATA 0x00803008
#define FLASH_ID 0x00803010
#define FLASH_STATUS 0x00803014
#define FLASH_CONFIG 0x0080301C /* 25:10 value for the status register */
#define FLASH_START BIT(29)
#define FLASH_WRITE_PROTECT_PIN BIT(30)
#define FLASH_BUSY BIT(31)

#define RF_CONTROLLER 0x01050000
#define MAC_STATE 0xC0000038 /* 7:4 next state */
#define MAC_STATE_ACTIVE (3u << 4)
