"""docs/event-order.md and its proofs: every row names a test that is there, every proof a row that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
DOCUMENT = TESTS.parent / "docs" / "event-order.md"

PROOFS: dict[str, list[str]] = {
    "before.files": [
        "test_convert.py::test_a_mistake_in_the_bench_file",
        "test_batch.py::test_a_mistake_is_one_sentence",
    ],
    "before.image": ["test_convert.py::test_a_file_that_must_not_go_onto_the_board"],
    "before.restore": ["test_restore.py::test_refused_before_anything_is_switched_on"],
    "before.provision": ["test_convert_provision.py::test_what_it_needs_of_the_environment_and_the_serial_number"],
    "before.home": [
        "test_home_parts.py::test_what_is_refused_before_the_start",
        "test_home_parts.py::test_a_broker_is_reached_before_the_first_board",
    ],
    "before.boards": [
        "test_convert.py::test_more_units_than_slots_needs_somebody_to_change_boards",
        "test_station.py::test_no_unit_begins_before_an_operator_is_known",
    ],
    "before.slots": [
        "test_convert_faults.py::test_one_user_a_slot",
        "test_station.py::test_a_supply_that_gives_less_than_one_board_may_draw_is_refused",
    ],
    "before.flasher": ["test_convert.py::test_a_mistake_on_the_command_line"],
    "before.run": ["test_station.py::test_first_boards_are_in_their_slots_and_later_ones_are_loaded"],
    "batch.operator": ["test_station.py::test_no_unit_begins_before_an_operator_is_known"],
    "batch.first-boards": ["test_station.py::test_first_boards_are_in_their_slots_and_later_ones_are_loaded"],
    "batch.golden": [
        "test_station.py::test_the_golden_unit_comes_first_and_again",
        "test_station.py::test_a_golden_unit_that_is_not_good_stops_the_line",
    ],
    "batch.scan": [
        "test_station.py::test_units_that_are_scanned",
        "test_station.py::test_an_open_batch_takes_what_fits_until_it_is_finished",
        "test_station.py::test_a_board_is_asked_for_and_the_scan_must_be_its",
    ],
    "batch.load": [
        "test_station.py::test_a_unit_whose_board_cannot_be_loaded_goes_back_to_the_others",
        "test_station.py::test_a_prompt_is_answered_at_the_terminal_too",
        "test_convert_faults.py::test_a_prompt_for_the_next_board_can_be_stopped",
        "test_station.py::test_an_output_that_is_not_off_keeps_the_board_in",
    ],
    "batch.budget": [
        "test_station.py::test_the_current_of_a_supply_is_shared",
        "test_station.py::test_golden_and_parked_boards_have_their_share_of_it_too",
    ],
    "batch.attempt": [
        "test_station.py::test_units_that_die_or_say_nothing_get_their_end",
        "test_station_ends.py::test_a_pass_stands_though_its_process_dies_after_it",
        "test_station_ends.py::test_of_two_ends_of_one_attempt_the_first_counts_everywhere",
    ],
    "batch.limit": [
        "test_station.py::test_a_step_that_does_not_end_is_ended",
        "test_station.py::test_the_word_of_a_person_counts_more_than_a_limit",
        "test_owner.py::test_a_unit_that_hangs_is_switched_off_and_ends",
        "test_owner.py::test_a_unit_that_is_ended_for_its_time_is_told_why",
    ],
    "batch.abort-unit": ["test_station.py::test_one_unit_is_aborted_and_the_slot_goes_on"],
    "batch.stage": [
        "test_station.py::test_a_recovered_unit_is_converted_in_the_next_attempt",
        "test_recover.py::test_both_are_recovered_and_then_converted_on_the_same_board",
    ],
    "batch.retry": ["test_station.py::test_a_unit_is_tried_again_and_every_attempt_is_kept"],
    "batch.other-slot": [
        "test_station_ends.py::test_a_blocked_unit_is_given_to_another_slot_with_its_board",
        "test_station_ends.py::test_a_unit_that_moves_is_never_in_two_slots",
        "test_station_ends.py::test_a_unit_that_every_slot_blocks_is_blocked",
    ],
    "batch.sample": ["test_station.py::test_a_sample_gets_a_burn_in_and_is_what_that_says"],
    "batch.label": ["test_station.py::test_a_label_is_made_for_each_unit_that_passed"],
    "batch.first-article": [
        "test_station.py::test_the_first_article_waits_for_approval",
        "test_station.py::test_a_first_article_that_nobody_can_approve_ends_the_run",
    ],
    "batch.slot-out": [
        "test_station.py::test_a_slot_that_blocks_is_out_and_its_unit_is_not_lost",
        "test_station.py::test_a_slot_is_out_after_so_many_and_goes_on_when_released",
        "test_station.py::test_where_nobody_is_there_the_run_ends_with_what_was_never_begun",
    ],
    "batch.line-stop": [
        "test_station.py::test_a_streak_of_failures_stops_the_line",
        "test_station.py::test_a_board_that_is_put_in_while_the_line_is_stopped_waits",
        "test_line_spc.py::test_a_rule_that_fires_is_noted_or_stops_the_line",
    ],
    "batch.rework": ["test_station.py::test_a_unit_that_is_over_is_tested_again_after_rework"],
    "batch.study": [
        "test_study.py::test_each_unit_is_measured_in_each_slot_and_put_in_for_each",
        "test_study.py::test_a_study_that_was_cut_short_goes_on_where_it_stopped",
    ],
    "batch.watchdog": [
        "test_watchdog.py::test_a_station_says_that_it_is_ready_alive_and_ending",
        "test_watchdog.py::test_a_station_whose_loop_hangs_falls_silent",
        "test_watchdog.py::test_a_station_that_is_stopped_says_so_at_once",
    ],
    "batch.park": [
        "test_station.py::test_the_park_image_goes_onto_the_board_that_is_left",
        "test_station.py::test_a_golden_unit_that_is_left_in_its_slot_is_not_written_to",
    ],
    "batch.end": ["test_station.py::test_a_stop_ends_all_of_it"],
    "resume.begin": [
        "test_station_resume.py::test_a_run_that_is_at_work_is_not_resumed",
        "test_station_resume.py::test_a_torn_line_is_dropped_and_named",
        "test_station_resume.py::test_a_board_that_a_dead_stations_command_still_moves_is_waited_for",
    ],
    "resume.close": [
        "test_station_resume.py::test_what_was_left_half_written_comes_first_and_numbers_go_on",
        "test_station_resume.py::test_a_prompt_a_stopped_line_and_slots_that_are_out_are_closed",
    ],
    "resume.order": [
        "test_station_resume.py::test_what_was_left_half_written_comes_first_and_numbers_go_on",
        "test_station_resume.py::test_which_unit_comes_first",
        "test_station_resume.py::test_a_bad_board_is_not_asked_for_again_and_a_sample_is_owed_its_burn_in",
        "test_station_ends.py::test_a_blocked_board_that_was_left_half_written_comes_first_until_it_is_written",
    ],
    "resume.counts": [
        "test_station_ends.py::test_streak_and_slot_health_go_on_when_a_run_is_resumed",
        "test_station_ends.py::test_the_golden_unit_is_not_due_again_before_its_time",
        "test_station_ends.py::test_turns_are_told_from_attempts",
        "test_line_spc.py::test_a_resumed_run_goes_on_with_the_charts_it_had",
    ],
    "resume.boards": [
        "test_station_resume.py::test_people_are_asked_for_every_board_the_half_written_one_first",
        "test_station_resume.py::test_which_board_is_in_a_slot",
    ],
    "resume.attempt": ["test_station_resume.py::test_what_was_left_half_written_comes_first_and_numbers_go_on"],
    "resume.another-board": [
        "test_station_resume.py::test_another_board_under_the_same_number_is_noted",
        "test_plans_parts.py::test_another_board_than_the_units_is_told_as_it_says_who_it_is",
    ],
    "step.image": ["test_board_identity.py::test_all_units_of_a_run_get_the_image_that_it_began_with"],
    "step.supply-off": ["test_bench_power.py::test_a_rail_that_stays_up_is_fed_by_something_else"],
    "step.identify": [
        "test_faults.py::test_a_board_that_cannot_be_linked",
        "test_plans.py::test_a_noisy_line_blocks_before_anything_is_asked_of_the_board",
    ],
    "step.backup": [
        "test_convert.py::test_factory_firmware_never_ran_before_its_backup",
        "test_convert.py::test_writing_begins_only_after_the_backup_is_on_record",
    ],
    "step.plan": ["test_recover.py::test_the_plan_is_on_record_before_anything_is_written"],
    "step.flash": [
        "test_conversion_steps.py::test_a_write_that_nobody_verified_is_judged_by_the_rig",
        "test_record.py::test_a_write_is_over_only_when_it_was_verified",
    ],
    "step.settled": ["test_conversion_steps.py::test_the_whole_flash_is_read_again_after_the_power_cycle"],
    "step.boot": ["test_convert_faults.py::test_a_weak_supply_blocks_and_the_log_shows_the_loop"],
    "step.steady": ["test_convert.py::test_every_unit_is_on_record_with_its_evidence"],
    "step.end": ["test_convert.py::test_every_unit_is_on_record_with_its_evidence"],
    "plan.verify": [
        "test_plans.py::test_verify_passes_a_board_that_holds_what_it_should_and_writes_nothing",
        "test_plans.py::test_an_erase_in_a_plan_that_only_looks_is_stopped_on_the_wire",
    ],
    "plan.burn-in": [
        "test_plans.py::test_the_boot_that_fails_is_named_and_the_rest_is_left_out",
        "test_plans.py::test_a_board_that_nothing_could_bring_back_is_never_booted",
        "test_plans_parts.py::test_the_firmware_runs_of_a_board_that_has_a_backup_or_holds_the_image",
    ],
    "plan.home": [
        "test_home_line.py::test_a_unit_is_met_and_all_is_on_record",
        "test_home_line.py::test_without_a_radio_it_is_left_out_and_says_so",
    ],
    "plan.suite": [
        "test_plans.py::test_every_test_of_a_suite_is_a_step_and_a_failed_one_is_the_units",
        "test_plans.py::test_a_suite_writes_only_with_a_backup_and_leaves_the_rest_alone",
    ],
    "fail.untouched": ["test_faults.py::test_a_line_that_fails_on_the_way"],
    "fail.half-written": [
        "test_record.py::test_stopped_while_writing_says_that_the_board_is_half_written",
        "test_record.py::test_a_fault_while_writing_keeps_its_code_and_says_that_the_board_is_half_written",
        "test_recover.py::test_a_recovery_that_is_stopped_leaves_the_supply_off_and_says_half_written",
    ],
    "fail.written": [
        "test_recover.py::test_a_board_that_did_not_boot_before_is_no_pass_after_and_the_sentence_says_why"
    ],
    "dies.unit": [
        "test_convert_faults.py::test_a_unit_killed_while_it_is_written_is_unverified",
        "test_convert_faults.py::test_the_supply_is_off_within_two_seconds",
    ],
    "dies.station": [
        "test_convert_faults.py::test_the_supply_is_off_within_two_seconds",
        "test_journal_sink.py::test_a_lost_station_aborts_now_and_ever_after",
    ],
    "dies.supply-service": [
        "test_supply_service.py::test_a_killed_service_is_followed_by_its_guardian",
        "test_supply_waveform.py::test_the_guardian_ends_a_list_once_the_output_is_off",
    ],
    "dies.guardian": ["test_supply_service.py::test_a_killed_guardian_is_replaced"],
    "dies.coordinator": [
        "test_labgrid.py::test_units_are_converted_through_a_place_whose_coordinator_is_killed_while_one_is_written",
        "test_labgrid_place.py::test_nothing_more_is_begun_where_no_coordinator_comes_back",
        "test_labgrid_place.py::test_it_may_come_back",
    ],
    "dies.holder": ["test_labgrid_place.py::test_a_holder_that_dies_is_followed_by_another"],
    "dies.cable": [
        "test_supply_faults.py::test_a_dead_connection_that_still_counts_is_one_sentence_and_waited_for",
        "test_supply_service.py::test_a_supply_whose_cable_was_pulled_goes_off_when_it_is_back",
    ],
    "dies.knob": ["test_bench_power.py::test_a_supply_that_is_turned_up_by_hand_is_switched_off"],
    "dies.adaptor": ["test_bench_power.py::test_faults_of_port_and_supply_come_out_of_the_link"],
    "dies.disk": [
        "test_station.py::test_a_journal_that_is_lost_stops_the_run",
        "test_journal_sink.py::test_an_unwritable_journal_aborts_the_unit_with_the_reason",
    ],
    "dies.machine": [
        "test_journal.py::test_cut_anywhere_every_whole_line_survives",
        "test_supply_waveform.py::test_a_machine_that_slept_between_two_edges_says_so",
    ],
}


def rows() -> list[str]:
    """Names in the first column of the document's tables."""
    return re.findall(r"^\| ([a-z]+\.[a-z-]+) \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_row_has_a_proof_and_every_proof_a_row() -> None:
    assert len(rows()) == len(set(rows())) > 40
    assert set(rows()) == set(PROOFS)


@pytest.mark.parametrize("row", PROOFS)
def test_its_proof_is_there(row: str) -> None:
    for proof in PROOFS[row]:
        file, _, name = proof.partition("::")
        assert re.search(rf"^ *def {name}\(", (TESTS / file).read_text(encoding="utf-8"), re.MULTILINE), proof
