/* The smallest bootloader: says that it runs, says the retention word, and lets the app have the chip.
 * Like the stock one it does not look at the app. When nobody handles an exception it says which and resets. */
#include "chip.h"
#include "console.h"
#include "watchdog.h"

/* The mask ROM starts only a flash that holds this, plain, at code address 0x100. */
__attribute__((section(".tag"), used)) static const char tag[8] = "BK7231\0";

#define ANOMALY 0xAD10u
#define ANOMALY_RESET_MS 10

void boot(void)
{
    console_open();
    print("\nrig-boot 1\nST:");
    print_hex(REG(RETENTION), 8, 'A');
    print("\nJ 0x10000\n");
}

/* 2 for an undefined instruction and 0xAD12 are the stock bootloader's; the other numbers are a guess. */
__attribute__((noreturn)) void anomaly(uint32_t which)
{
    console_open();
    print("[ARM ANOMALY][");
    print_number(which);
    print("]\n");
    console_drain();
    REG(RETENTION) = ANOMALY + which;
    watchdog(ANOMALY_RESET_MS);
    for (;;)
        ;
}
