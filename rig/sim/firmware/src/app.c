/* What a module's firmware looks like from outside: it says who it is, why it started and what it runs on, works
 * the radio for a while, then lives on, one line a second. All text is on UART2; UART1 is left alone.
 *
 * Built twice. FACTORY also counts its boots in flash, so that a test can tell whether it ever ran. */
#include "chip.h"
#include "console.h"
#include "flash.h"
#include "watchdog.h"

__attribute__((section(".tag"), used)) static const char tag[8] = "BK7231\0";

#define WATCHDOG_MS 5000
#define CALIBRATION_MS 120
#define COMPLETE_S 2

/* Ticks of timer 3 at 32 kHz. The radio needs fine ones; afterwards coarse ones save interrupts. */
#define FINE_MS 2
#define COARSE_MS 10
#define TICKS_PER_MS 32

void irq_entry(void);

static uint32_t now_ms, tick_ms, seconds;
volatile uint32_t calibrated; /* app.S waits for it */

static void say_cause(void)
{
    static const struct {
        uint16_t retention;
        uint8_t code;
        const char *name;
    } causes[] = {
        {1, 1, "reboot"},
        {0xAD12, 6, "undefined instruction"},
        {0xAD13, 7, "prefetch abort"},
        {0xAD14, 8, "data abort"},
    };
    uint32_t word = REG(RETENTION);
    uint32_t code = 11;
    const char *name = "unknown";

    if ((word & 0xFFFF) == 0) {
        code = word & RETENTION_WATCHDOG ? 2 : 0;
        name = word & RETENTION_WATCHDOG ? "watchdog" : "power-on";
    }
    for (unsigned i = 0; i < sizeof causes / sizeof causes[0]; i++)
        if ((word & 0xFFFF) == causes[i].retention) {
            code = causes[i].code;
            name = causes[i].name;
        }
    REG(RETENTION) = 0; /* the next reset speaks for itself */
    print("reset cause ");
    print_number(code);
    print(" ");
    print(name);
    print("\n");
}

static void say_chip(void)
{
    print("chip id ");
    print_hex(REG(CHIP_ID), 8, 'a');
    print(" device ");
    print_hex(REG(DEVICE_ID), 8, 'a');
    print("\nflash id ");
    print_hex(flash_id(), 6, 'a');
    print("\n");
}

/* The MAC sits in the calibration sector, as second entry of the first group; tools look at the same fixed place. */
static void say_mac(void)
{
    enum { TLV_SECTOR = 0x1D0000, TLV_MAGIC = 0x00564C54, MAC_TAG = 0x11111102, MAC_LENGTH = 6 };
    uint32_t tlv[16];
    const uint8_t *mac = (const uint8_t *)tlv + 0x24;

    flash_read(TLV_SECTOR, tlv);
    flash_read(TLV_SECTOR + FLASH_PAGE, tlv + 8);
    if (tlv[0] != TLV_MAGIC) {
        print("mac none: no TLV\n");
        return;
    }
    if (tlv[7] != MAC_TAG || tlv[8] != MAC_LENGTH) {
        print("mac none: TLV without MAC\n");
        return;
    }
    print("mac ");
    for (int i = 0; i < 6; i++) {
        if (i)
            print(":");
        print_hex(mac[i], 2, 'a');
    }
    print("\n");
}

#ifdef FACTORY
/* One 32-byte record a boot, until the sector is full; then it is erased. A record that was cut short by a power
 * failure does not match its complement and is passed over. */
static void count_boot(void)
{
    enum { SECTOR = 0x1EE000, MAGIC = 0x42474952, BLANK = ~0u };
    uint32_t record[8], count = 0, at;

    for (at = 0; at < FLASH_SECTOR; at += FLASH_PAGE) {
        flash_read(SECTOR + at, record);
        if (record[0] == BLANK && record[1] == BLANK && record[2] == BLANK)
            break;
        if (record[0] == MAGIC && record[2] == ~record[1])
            count = record[1];
    }
    flash_protect(0);
    if (at == FLASH_SECTOR) {
        flash_erase(SECTOR);
        at = 0;
    }
    count++;
    for (int i = 0; i < 8; i++)
        record[i] = BLANK;
    record[0] = MAGIC;
    record[1] = count;
    record[2] = ~count;
    flash_program(SECTOR + at, record);
    flash_protect(1); /* factory firmware leaves the die protected: a flasher has to lift that first */
    flash_read(SECTOR + at, record);
    if (record[1] != count) {
        print("boots not stored\n");
        return;
    }
    print("boots ");
    print_number(count);
    print("\n");
}
#endif

static void start_ticks(uint32_t ms)
{
    tick_ms = ms;
    REG(TIMER_B_CONTROL) = TIMER3_FLAG;
    REG(TIMER3_PERIOD) = ms * TICKS_PER_MS;
    REG(TIMER_B_CONTROL) = TIMER3_ENABLE;
}

/* Stands in for the calibration of a real radio: it writes the RF controller in bursts, at the pace of the timer.
 * Nothing is calibrated. It is there for whoever watches the supply: that is when a module first draws more. */
static void calibrate(void)
{
    for (uint32_t i = 0; i < 16; i++)
        REG(RF_CONTROLLER + 4 * i) = now_ms << 8 | i;
    if (now_ms < CALIBRATION_MS)
        return;
    calibrated = 1;
    print("radio ready\n");
    REG(MAC_STATE) = MAC_STATE_ACTIVE; /* from here on it would send beacons; no network stands behind it */
    start_ticks(COARSE_MS);
}

static void on_second(void)
{
    watchdog(WATCHDOG_MS);
    seconds++;
    print("alive ");
    print_number(seconds);
    print("\n");
    if (seconds == COMPLETE_S)
        print("boot complete\n");
}

void on_irq(void)
{
    uint32_t status = REG(ICU_IRQ_STATUS);

    REG(ICU_IRQ_STATUS) = status;
    if (!(status & IRQ_TIMER))
        return;
    REG(TIMER_B_CONTROL) = TIMER3_ENABLE | TIMER3_FLAG;
    now_ms += tick_ms;
    if (!calibrated)
        calibrate();
    if (now_ms >= (seconds + 1) * 1000)
        on_second();
}

void app(void)
{
    watchdog(WATCHDOG_MS);
    console_open();
    print(NAME " BK7231N, version " VERSION "\n");
    say_cause();
    say_chip();
    say_mac();
#ifdef FACTORY
    count_boot();
#endif
    print("radio start\n");
    REG(HANDLER_IRQ) = (uint32_t)irq_entry;
    REG(ICU_CLOCK_OFF) &= ~CLOCK_TIMERS_32K;
    REG(ICU_IRQ_ENABLE) = IRQ_TIMER;
    REG(ICU_GLOBAL_ENABLE) = BIT(0);
    start_ticks(FINE_MS);
}
