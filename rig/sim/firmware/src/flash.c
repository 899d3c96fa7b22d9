#include "flash.h"

#include "chip.h"

enum operation {
    READ_STATUS_LOW = 3,
    READ = 5,
    READ_STATUS_HIGH = 6,
    WRITE_STATUS = 7, /* both bytes */
    PROGRAM = 12,
    ERASE_SECTOR = 13,
    READ_ID = 20,
};

#define BLOCK_PROTECT 0x007Cu
#define COMPLEMENT_PROTECT 0x4000u
#define CONFIG_STATUS_SHIFT 10

static void operate(enum operation operation, uint32_t address)
{
    REG(FLASH_OPERATE) = (REG(FLASH_OPERATE) & FLASH_WRITE_PROTECT_PIN) | FLASH_START | (uint32_t)operation << 24 | address;
    while (REG(FLASH_OPERATE) & FLASH_BUSY)
        ;
}

uint32_t flash_id(void)
{
    operate(READ_ID, 0);
    return REG(FLASH_ID) & 0xFFFFFF;
}

void flash_read(uint32_t address, uint32_t page[8])
{
    operate(READ, address);
    for (int i = 0; i < 8; i++)
        page[i] = REG(FLASH_READ_DATA);
}

void flash_program(uint32_t address, const uint32_t page[8])
{
    for (int i = 0; i < 8; i++)
        REG(FLASH_WRITE_DATA) = page[i];
    operate(PROGRAM, address);
}

void flash_erase(uint32_t address)
{
    operate(ERASE_SECTOR, address);
}

void flash_protect(int on)
{
    uint32_t now, want;

    operate(READ_STATUS_LOW, 0);
    now = REG(FLASH_STATUS) & 0xFF;
    operate(READ_STATUS_HIGH, 0);
    now |= (REG(FLASH_STATUS) & 0xFF) << 8;
    want = now & ~(BLOCK_PROTECT | COMPLEMENT_PROTECT); /* the rest, quad enable among it, stays */
    if (on)
        want |= BLOCK_PROTECT;
    if (want == now)
        return;
    REG(FLASH_CONFIG) = (REG(FLASH_CONFIG) & ~(0xFFFFu << CONFIG_STATUS_SHIFT)) | want << CONFIG_STATUS_SHIFT;
    operate(WRITE_STATUS, 0);
}
