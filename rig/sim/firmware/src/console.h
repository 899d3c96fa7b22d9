/* Text on UART2, 115200 8N1, polled. */
#pragma once

#include <stdint.h>

void console_open(void);
void print(const char *text);
void print_hex(uint32_t value, int digits, char ten); /* `ten` is the digit for 10: 'a' or 'A' */
void print_number(uint32_t value);
void console_drain(void); /* until the last bit is on the wire */
