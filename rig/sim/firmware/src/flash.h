/* The flash die through its controller. Addresses are physical bytes: no CRC blocks, no cipher. */
#pragma once

#include <stdint.h>

#define FLASH_PAGE 32 /* what the controller moves at once; addresses of pages are multiples of it */
#define FLASH_SECTOR 0x1000

uint32_t flash_id(void);
void flash_read(uint32_t address, uint32_t page[8]);
void flash_program(uint32_t address, const uint32_t page[8]); /* 1 -> 0 only */
void flash_erase(uint32_t address);                           /* its sector */
void flash_protect(int on);                                   /* the whole die, by its status register */
