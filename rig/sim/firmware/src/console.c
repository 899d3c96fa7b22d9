#include "console.h"

#include "chip.h"

#define ENABLE_TX_RX 0x3
#define EIGHT_BITS (3u << 3)
#define DIVISOR_115200 225u /* 26 MHz / 226 = 115,044, as the stock bootloader has it */

void console_open(void)
{
    REG(ICU_CLOCK_OFF) &= ~CLOCK_UART2;
    REG(ICU_CLOCK_SELECT) |= CLOCK_UART2;
    REG(GPIO_P0) = GPIO_FUNCTION_PULL_UP;
    REG(GPIO_P1) = GPIO_FUNCTION_PULL_UP;
    REG(GPIO_FUNCTION) &= ~0xFu;
    REG(UART2_CONFIG) = ENABLE_TX_RX | EIGHT_BITS | DIVISOR_115200 << 8;
    REG(UART2_FIFO_CONFIG) = 0x3040;
}

static void put(char c)
{
    while (!(REG(UART2_FIFO_STATUS) & UART_WRITE_READY))
        ;
    REG(UART2_PORT) = (uint8_t)c;
}

void print(const char *text)
{
    for (; *text; text++) {
        if (*text == '\n')
            put('\r');
        put(*text);
    }
}

void print_hex(uint32_t value, int digits, char ten)
{
    while (digits--) {
        uint32_t digit = value >> (4 * digits) & 0xF;

        put((char)(digit < 10 ? '0' + digit : ten + digit - 10));
    }
}

void print_number(uint32_t value)
{
    static const uint32_t powers[] = {1000000000, 100000000, 10000000, 1000000, 100000, 10000, 1000, 100, 10, 1};
    int started = 0;

    /* By subtraction: the core cannot divide and there is no library here. */
    for (unsigned i = 0; i < sizeof powers / sizeof powers[0]; i++) {
        char digit = '0';
        for (; value >= powers[i]; value -= powers[i])
            digit++;
        started |= digit != '0' || powers[i] == 1;
        if (started)
            put(digit);
    }
}

void console_drain(void)
{
    while (!(REG(UART2_FIFO_STATUS) & UART_TX_EMPTY))
        ;
}
