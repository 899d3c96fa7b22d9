"""The executing model of the chip, with programs made here: no firmware file is needed."""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path

import pytest

from rig.image import beken
from rig.sim.flash import NorFlash

pytest.importorskip("unicorn", reason="the executing model needs unicorn (extra: sim)")

from rig.sim.soc import NEVER, Load, Soc, engine, rom_finds_tag
from rig.sim.soc.__main__ import main as show
from tests.soc_programs import (
    BYTE_NS,
    DATA,
    EFUSE,
    FLASH,
    IRQ,
    MAC,
    MAIN,
    MS,
    NOT_EQUAL,
    PREFETCH,
    RETENTION,
    SWI,
    UART1,
    UART2,
    UNDEFINED,
    Asm,
    Bench,
    image,
    program,
)

TIMER = 0x00802A00
ICU = 0x00802000


def run(main: Asm, handlers: dict[int, Asm] | None = None, ms: float = 5) -> Bench:
    return Bench(image(program(main, handlers))).run(ms)


def test_it_executes_what_is_in_flash_and_each_byte_leaves_when_the_wire_is_free() -> None:
    bench = run(Asm(MAIN).uart().say("hello").rest())
    assert bench.text() == "hello"
    times = [ns for _, _, ns in bench.sent]
    assert times[0] >= BYTE_NS
    assert [b - a for a, b in pairwise(times)] == [BYTE_NS] * 4


def test_the_two_ports_are_told_apart() -> None:
    bench = run(Asm(MAIN).uart().say("one", UART1).say("two").rest())
    assert (bench.text(1), bench.text(2)) == ("one", "two")


def test_a_port_whose_pin_is_still_gpio_is_not_heard() -> None:
    bench = run(Asm(MAIN).store(UART2, 3 | 3 << 3 | 225 << 8).say("lost").rest())
    assert bench.text() == ""


def test_printing_more_than_a_fifo_takes_the_wire_time_and_loses_nothing() -> None:
    main = Asm(MAIN).uart().load(2, 400)
    again = main.here
    wait = again
    main.read(UART2 + 8).words(0xE3110601).branch(wait, 0x0)  # tst r1, #1 << 20; beq
    main.store(UART2 + 0xC, ord("x")).words(0xE2522001).branch(again, NOT_EQUAL)  # subs r2, r2, #1
    bench = run(main.rest(), ms=100)
    assert bench.text() == "x" * 400
    assert 34 * MS < bench.sent[-1][2] < 36 * MS


def test_a_full_fifo_takes_no_more() -> None:
    main = Asm(MAIN).uart().load(0, UART2 + 0xC).load(1, ord("x")).words(*[0xE5801000] * 200)
    assert 128 <= len(run(main.rest(), ms=50).text()) <= 129


def test_an_input_reads_its_pull_and_an_output_itself() -> None:
    main = Asm(MAIN).uart()
    for word in (0x3C, 0x2C, 0x0C, 0x02, 0x00):
        main.store(0x00802814, word).read(0x00802814).words(0xE2011001)  # and r1, r1, #1
        main.load(0, UART2 + 0xC).words(0xE5801000)
    assert run(main.rest()).text() == "\1\0\0\1\0"


def test_the_rom_wants_its_tag() -> None:
    code = image(program(Asm(MAIN).uart().say("x").rest()))
    assert rom_finds_tag(NorFlash(code))
    for flash in (b"", code.replace(b"BK7231", b"BK7232")):
        bench = Bench(flash)
        assert not rom_finds_tag(bench.flash)
        assert bench.soc.start() is False
        assert not bench.soc.running
        bench.soc.run(MS)
        assert (bench.text(), bench.soc.now_ns) == ("", MS)


def test_a_chip_with_another_key_executes_garbage_and_is_dead() -> None:
    code = image(program(Asm(MAIN).uart().say("x").rest()))
    bench = Bench(code, efuse=bytes(32)).run(50)
    assert bench.text() == ""
    assert not bench.soc.running
    assert bench.soc.is_dead
    assert bench.loads[-1][0] is Load.HALTED
    assert bench.soc.next_event_ns == NEVER


def test_an_unencrypted_image_runs_with_an_erased_key() -> None:
    code = image(program(Asm(MAIN).uart().say("plain").rest()), beken.ZERO_KEY)
    assert Bench(code, efuse=bytes(32)).run(5).text() == "plain"


def exception_bench(cause: Asm) -> Bench:
    """`cause` runs, then OK is said; each handler says its letter and returns past the cause."""
    main = Asm(MAIN)
    for mode, top in ((0x1B, 0x402000), (0x17, 0x402800), (0x13, 0x403000)):
        main.stack(mode, top)
    main.uart()
    main.code += cause.code
    main.say("!").rest()
    handlers = {
        UNDEFINED: Asm(0x800).say("U").words(0xE1B0F00E),  # movs pc, lr
        SWI: Asm(0x900).say("S").words(0xE1B0F00E),
        PREFETCH: Asm(0xA00).say("P").words(0xE1A0F002),  # mov pc, r2
        DATA: Asm(0xB00).say("D").words(0xE25EF004),  # subs pc, lr, #4
    }
    return run(main, handlers)


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        pytest.param(Asm().words(0xE7F000F0), "U!", id="undefined instruction"),
        pytest.param(Asm().words(0xF57FF04F), "U!", id="an instruction of a later core (dsb)"),
        pytest.param(Asm().words(0xEF000000, 0xEA000000, 0xE7F000F0), "S!", id="swi, branch past undefined"),
        pytest.param(Asm().load(0, 0x00200000).words(0xE5901000), "D!", id="read of nothing"),
        pytest.param(Asm().load(0, 0x00430000).words(0xE5801000), "D!", id="write past 192 KB of SRAM"),
        pytest.param(Asm().load(0, 0x00000400).words(0xE5801000), "D!", id="write into flash"),
    ],
)
def test_exceptions_reach_their_vector_and_return(cause: Asm, said: str) -> None:
    assert exception_bench(cause).text() == said


def test_a_jump_to_nowhere_is_a_prefetch_abort() -> None:
    cause = Asm().load(3, 0x00700000).words(0xE1A0200F, 0xE1A0F003)  # mov r2, pc: where to go on
    assert exception_bench(cause).text() == "P!"


def test_a_block_with_a_wrong_crc_fails_only_when_it_is_executed() -> None:
    main = Asm(MAIN).uart().say("a")
    target = (main.here + 31) // 32 * 32
    main.org(target).say("b").rest()
    code = bytearray(image(program(main, {UNDEFINED: Asm(0x800).say("U").rest()})))
    spare = beken.logical_to_flash(0xA00)
    code.extend(bytes(spare + 34 - len(code)))
    assert Bench(bytes(code)).run(5).text() == "ab"  # code that nobody runs may be damaged
    code[beken.logical_to_flash(target)] ^= 1
    assert Bench(bytes(code)).run(5).text() == "aU"


def test_the_flash_controller_counts_bad_blocks_that_are_executed() -> None:
    main = Asm(MAIN).uart().read(FLASH + 0x14).send_word()
    target = (main.here + 31) // 32 * 32
    main.org(target).rest()
    handler = Asm(0x800).read(FLASH + 0x14).send_word().rest()
    code = bytearray(image(program(main, {UNDEFINED: handler})))
    code[beken.logical_to_flash(target)] ^= 1
    assert Bench(bytes(code)).run(5).text() == "\0\0\0\0" + "\0\1\0\0"  # bits 15:8


def test_the_speed_of_a_port_is_its_divisors() -> None:
    bench = run(Asm(MAIN).uart().store(UART1, 3 | 3 << 3 | 2707 << 8).rest())
    assert (bench.soc.uart_baud(1), bench.soc.uart_baud(2)) == (9601, 115_044)
    bench.soc.reset("cen")
    assert bench.soc.uart_baud(1) == 0


def test_flash_changed_from_outside_is_what_runs_next() -> None:
    def says(letter: str) -> bytes:  # in an instruction: a literal would be read anew anyway
        main = Asm(MAIN).uart().load(0, UART2 + 0xC).words(0xE3A01000 | ord(letter), 0xE5801000)
        return image(program(main.rest()))

    bench = Bench(says("a")).run(5)
    bench.flash.erase(0, 0x1000)
    bench.flash.program(0, says("b"))
    bench.soc.reset("cen")
    assert bench.run(5).text() == "ab"


def ticking(body: Asm, wait: Asm) -> tuple[Asm, dict[int, Asm]]:
    """Timer 3 each 64/32000 s, `body` in its interrupt handler, then `wait`."""
    main = Asm(MAIN).stack(0x12, 0x402000).uart()
    main.store(TIMER + 0x40, 64).store(TIMER + 0x4C, 1)
    main.store(ICU + 0x40, 1 << 8).store(ICU + 0x44, 1).irqs_on()
    main.code += wait.code
    handler = Asm(0x800).words(0xE92D4003)  # push {r0, r1, lr}
    handler.code += body.code
    handler.store(TIMER + 0x4C, 1 | 1 << 7).words(0xE8BD4003, 0xE25EF004)  # pop; subs pc, lr, #4
    return main, {IRQ: handler}


@pytest.mark.parametrize(
    "wait", [Asm().rest(), Asm().words(0xE28F0001, 0xE12FFF10, 0xE7FEE7FE)], ids=["ARM", "Thumb"]
)
def test_a_branch_to_itself_sleeps_from_tick_to_tick(wait: Asm) -> None:
    bench = run(*ticking(Asm().say("t"), wait), ms=1)
    soc = bench.soc
    assert bench.text() == ""
    first = soc.next_event_ns
    assert soc.now_ns < first <= 2 * MS + 100_000  # asleep: it knows when it will have work
    soc.run(first)
    assert soc.next_event_ns == first  # now it has
    soc.run(200 * MS)
    assert len(bench.text()) == 99
    times = [ns for _, _, ns in bench.sent]
    assert all(abs(b - a - 2 * MS) < 50_000 for a, b in pairwise(times))
    assert [load for load, _ in bench.loads] == [Load.CPU, Load.IDLE]  # ticks are too short to be reported


def test_a_tick_is_reported_as_load_when_it_lasts() -> None:
    spin = Asm().load(0, 20_000).words(0xE2500001, 0x1AFFFFFD)  # subs r0, r0, #1; bne
    bench = run(*ticking(spin, Asm().rest()), ms=9)
    assert [load for load, _ in bench.loads] == [Load.CPU, Load.IDLE] + [Load.CPU, Load.IDLE] * 4
    assert 0.28 * MS < bench.loads[-1][1] - bench.loads[-2][1] < 0.5 * MS


def test_a_handler_that_never_returns_is_the_end_too() -> None:
    bench = run(*ticking(Asm().rest(), Asm().rest()), ms=20)
    assert bench.soc.is_dead
    assert bench.loads[-1][0] is Load.HALTED
    assert bench.soc.now_ns < 3 * MS  # run() ended there


def test_masked_interrupts_and_no_watchdog_is_the_end() -> None:
    bench = run(Asm(MAIN).rest(), ms=50)
    assert bench.soc.is_dead
    assert bench.soc.now_ns < MS
    bench.soc.run(60 * MS)
    assert bench.soc.now_ns == 60 * MS  # time goes on
    bench.soc.reset("cen")
    assert not bench.soc.is_dead


def counting() -> Asm:
    """Says the retention word and a count kept in RAM, then lets the watchdog bite in 20 ms."""
    main = Asm(MAIN).uart().read(RETENTION).send_word()
    main.read(0x00410000).words(0xE2811001, 0xE5801000).send_word()  # add r1, r1, #1; str r1, [r0]
    return main.store(RETENTION, 0x0000AD12).watchdog(20).rest()


def reported(bench: Bench) -> list[tuple[int, ...]]:
    data = bytes(byte for _, byte, _ in bench.sent)
    return list(struct.iter_unpack("<II", data))


def test_the_watchdog_resets_the_chip_and_leaves_its_mark() -> None:
    bench = Bench(image(program(counting()))).run(100)
    assert [cause for cause, _ in bench.resets] == ["watchdog"]
    assert abs(bench.resets[0][1] - 20 * MS) < MS / 10
    assert bench.soc.now_ns == bench.resets[0][1]
    assert not bench.soc.running
    assert bench.loads[-1][0] is Load.HALTED  # it stands in the ROM until it is started
    bench.run(10)
    assert reported(bench) == [(0, 1), (0x0001AD12, 2)]  # RAM outlived the reset


def test_what_a_pin_reset_and_a_power_cycle_keep() -> None:
    bench = Bench(image(program(counting()))).run(10)
    bench.soc.reset("cen")
    bench.run(10)
    bench.soc.power_on()
    bench.run(10)
    assert reported(bench) == [(0, 1), (0, 2), (0, 1)]


def test_feeding_the_watchdog_keeps_it_quiet_and_zero_stops_it() -> None:
    feed = Asm().watchdog(5)
    assert run(*ticking(feed, Asm().rest()), ms=100).resets == []
    main = Asm(MAIN).watchdog(5).watchdog(0).stack(0x12, 0x402000).irqs_on().rest()
    assert run(main, ms=100).resets == []
    gated = Asm(MAIN).store(ICU + 8, 1 << 8).watchdog(5).irqs_on().rest()
    assert run(gated, ms=100).resets == []


def test_a_fault_that_faults_again_waits_for_the_watchdog() -> None:
    undefined = 0xE7F000F0
    handler = {UNDEFINED: Asm(0x800).words(undefined)}
    bench = run(Asm(MAIN).watchdog(50).words(undefined), handler, ms=100)
    assert [cause for cause, _ in bench.resets] == ["watchdog"]
    assert run(Asm(MAIN).words(undefined), handler, ms=100).soc.is_dead


def operate(opcode: int, address: int = 0) -> tuple[int, int]:
    return FLASH, 1 << 29 | opcode << 24 | address


def test_firmware_reads_erases_and_programs_flash_and_it_takes_time() -> None:
    main = Asm(MAIN).uart().store(*operate(20)).read(FLASH + 0x10).send_word()
    main.store(*operate(13, 0x1D0123))
    for word in range(8):
        main.store(FLASH + 4, 0x01010101 * word)
    main.store(*operate(12, 0x1D0040)).store(*operate(5, 0x1D0040))
    main.read(FLASH + 8).read(FLASH + 8).send_word().rest()
    flash = NorFlash(image(program(main)))
    flash.data[0x1D0000:0x1D2000] = bytes(0x2000)
    bench = Bench(flash).run(60)
    assert bench.text() == "\x15\x60\xeb\0\1\1\1\1"
    assert flash.data[0x1D0000:0x1D0040] == b"\xff" * 64
    assert flash.data[0x1D0040:0x1D0060] == struct.pack("<8I", *(0x01010101 * word for word in range(8)))
    assert flash.data[0x1D1000] == 0
    assert {load for load, _ in bench.loads} >= {Load.ERASE, Load.PROGRAM}


def test_an_erase_holds_the_cpu_for_its_time() -> None:
    bench = run(*ticking(Asm().say("t"), Asm().store(*operate(13, 0x1D0000)).rest()), ms=60)
    erase = next(ns for load, ns in bench.loads if load is Load.ERASE)
    after = next(ns for load, ns in bench.loads if ns > erase)
    assert after - erase == pytest.approx(45 * MS, abs=MS / 20)
    assert not [ns for _, _, ns in bench.sent if erase + MS < ns < after]
    assert len(bench.text()) == 1 + 7  # the ticks during the erase became one


def test_a_protected_flash_ignores_the_firmware() -> None:
    main = Asm(MAIN).uart().store(FLASH + 0x1C, 0x7C << 10).store(*operate(4)).store(*operate(13, 0x1D0000))
    main.store(*operate(3)).read(FLASH + 0x14).send_word().rest()
    flash = NorFlash(image(program(main)))
    flash.data[0x1D0000] = 0
    bench = Bench(flash).run(60)
    assert bench.text()[0] == "\x7c"
    assert flash.data[0x1D0000] == 0
    assert Load.ERASE not in [load for load, _ in bench.loads]


def test_efuse_ids_and_random_numbers() -> None:
    main = Asm(MAIN).uart().read(0x00800000).send_word().read(0x00800004).send_word()
    for address in range(24, 30):
        main.store(0x00800074, address << 8 | 1).read(0x00800078).words(0xE20110FF)  # and r1, r1, #255
        main.load(0, UART2 + 0xC).words(0xE5801000)
    main.store(0x00802480, 1).read(0x00802484).send_word().read(0x00802484).send_word().rest()
    code = image(program(main))
    one, same, other = (Bench(code, seed=seed).run(20).text().encode("latin-1") for seed in (1, 1, 2))
    assert struct.unpack_from("<II", one) == (0x0007231C, 0x20521010)
    assert one[8:14] == MAC
    assert one == same != other
    assert one[14:18] != one[18:22]


def test_dma_copies_memory() -> None:
    main = Asm(MAIN).uart().store(0x00410000, 0x21444D41)
    main.store(0x00809008, 0x00410000).store(0x00809004, 0x00411000).store(0x00809000, 3 << 16 | 1)
    main.read(0x00411000).send_word().read(0x00809000).send_word().rest()
    assert run(main).text() == "AMD!" + "\0\0\3\0"


def test_an_adc_sample_interrupts_and_a_stopped_adc_forgets() -> None:
    adc = 0x00802C00
    main = Asm(MAIN).stack(0x12, 0x402000).uart().store(ICU + 0x40, 1 << 11).store(ICU + 0x44, 1)
    main.store(adc, 1 << 2 | 3).irqs_on().rest()
    handler = Asm(0x800).read(adc + 0x10).send_word().store(adc, 0).words(0xE25EF004)
    assert run(main, {IRQ: handler}).text() == struct.pack("<I", 330).decode("latin-1")


def test_received_bytes_reach_the_program_and_wake_it() -> None:
    main = Asm(MAIN).stack(0x12, 0x402000).uart().store(UART1 + 0x10, 1 << 1 | 1 << 6)
    main.store(ICU + 0x40, 1).store(ICU + 0x44, 1).irqs_on().rest()
    handler = Asm(0x800).read(UART1 + 0xC).words(0xE1A01421)  # the byte is in bits 15:8
    handler.load(0, UART1 + 0xC).words(0xE5801000, 0xE25EF004)
    bench = run(main, {IRQ: handler})
    assert bench.soc.next_event_ns == NEVER  # asleep, nothing to come
    bench.soc.uart_receive(1, b"ping")
    assert bench.soc.next_event_ns == bench.soc.now_ns
    bench.soc.run(10 * MS)
    assert bench.text(1) == "ping"


def test_radio_traffic_shows_as_load() -> None:
    main = Asm(MAIN).stack(0x12, 0x402000).store(0x01050010, 5).store(0xC0000038, 0x30).irqs_on().rest()
    bench = run(main, ms=310)
    assert [load for load, _ in bench.loads if load is Load.RF_TX] == [Load.RF_TX] * 4
    starts = [ns for load, ns in bench.loads if load is Load.RF_TX]
    ends = [ns for (load, _), (_, ns) in pairwise(bench.loads) if load is Load.RF_TX]
    assert [b - a for a, b in pairwise(starts)] == [102_400_000] * 3
    assert [b - a for a, b in zip(starts, ends, strict=False)] == [2 * MS] * 4
    bench.soc.reset("cen")
    assert bench.soc.next_event_ns == NEVER
    working = run(Asm(MAIN).stack(0x12, 0x402000).store(0x01050010, 5).irqs_on().branch(MAIN), ms=3)
    assert Load.RF_CAL in [load for load, _ in working.loads]


def test_bytes_and_halfwords_of_registers() -> None:
    main = Asm(MAIN).uart().store(0x00800058, 0x11223344).words(0xE3A010AA, 0xE5C01001, 0xE1D010B2)
    main.send_word().read(0x00800058).send_word().rest()  # mov r1, #0xAA; strb [r0, #1]; ldrh [r0, #2]
    assert run(main).text().encode("latin-1") == bytes.fromhex("2211000044aa2211")


def test_time_never_goes_back_and_reports_come_in_order() -> None:
    bench = Bench(image(program(counting()))).run_through_resets(90)
    times = [ns for _, ns in bench.loads]
    assert times == sorted(times)
    assert len(bench.resets) == 4
    assert [cause for cause, _ in bench.resets] == ["watchdog"] * 4


def test_a_board_may_start_it_from_within_the_reset_report() -> None:
    flash = NorFlash(image(program(counting())))
    resets: list[int] = []

    def again(_cause: str, ns: int) -> None:
        resets.append(ns)
        soc.start()

    soc = Soc(flash, EFUSE, on_uart=lambda *_: None, on_reset=again)
    soc.power_on()
    soc.start()
    soc.run(90 * MS)
    assert len(resets) == 4
    assert soc.running


def test_a_binding_laid_out_differently_is_used_through_its_public_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    code = image(program(Asm(MAIN).uart().say("slow").watchdog(3).rest()))
    monkeypatch.setattr(engine, "_LIBRARY", None)
    bench = Bench(code).run(5)
    assert bench.text() == "slow"
    assert [cause for cause, _ in bench.resets] == ["watchdog"]


@pytest.mark.parametrize("direct", [True, False])
def test_an_error_in_a_register_access_is_not_swallowed(monkeypatch: pytest.MonkeyPatch, direct: bool) -> None:
    def broken(_port: int, _byte: int, _ns: int) -> None:
        raise ZeroDivisionError

    if not direct:
        monkeypatch.setattr(engine, "_LIBRARY", None)
    soc = Soc(NorFlash(image(program(Asm(MAIN).uart().say("x").rest()))), EFUSE, on_uart=broken)
    soc.power_on()
    soc.start()
    with pytest.raises(ZeroDivisionError):
        soc.run(5 * MS)


def test_the_viewer_shows_what_a_file_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "hello.bin"
    file.write_bytes(image(program(Asm(MAIN).uart().say("hello\nworld\n").rest())))
    assert show([str(file), "--seconds", "0.05"]) == 0
    out, err = capsys.readouterr()
    assert out == "hello\nworld\n"
    assert "interrupts off" in err
    assert show([str(file), "--key", "none"]) == 0
    assert "dead" in capsys.readouterr().err
    assert show([str(tmp_path / "no.bin")]) == 2
    assert "no.bin" in capsys.readouterr().err
    file.write_bytes(bytes(0x200001))
    assert show([str(file)]) == 2
    file.write_bytes(bytes(100))
    assert show([str(file)]) == 0
    assert "no BK7231 tag" in capsys.readouterr().err
