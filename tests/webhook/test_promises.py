"""The webhook's promises, each with the tests that would fail if it were broken; all of them are there."""

from __future__ import annotations

import ast
from functools import lru_cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

#: A promise, and below it files and tests: ``api`` is tests/webhook/test_api.py, ``stack/zones``
#: tests/stack/test_zones.py.
PROMISES = """
options and their defaults
    command test_what_is_not_said_is_as_promised
    command test_lists_may_be_said_in_pieces
the command line of Desktop Kubernetes
    command test_the_command_line_of_desktop_kubernetes
nowhere to publish, an odd domain or address: exit 2
    stack/webhook test_settings_that_cannot_work_end_it_at_once
    command test_a_hosts_file_in_no_folder_ends_it_at_once
each option has its variable
    stack/webhook test_every_option_has_a_twin_in_the_environment
loopback unless asked
    stack/webhook test_the_door_is_loopback_unless_asked_otherwise
only whom --allow lets
    api test_who_may_call
    listener test_who_calls_is_who_is_connected_whatever_a_header_says
probes on a door of their own
    stack/webhook test_the_answers_as_the_client_reads_them
--cleanup leaves nothing
    stack/webhook_hosts test_cleanup_leaves_the_users_file
    stack/webhook_etcd test_names_become_keys_and_state_lives_in_etcd
endpoints are kept as posted
    api test_records_are_given_back_as_posted
SIGTERM ends within 1 s
    stack/webhook_hosts test_it_stops_within_a_second_and_answers_what_is_in_hand
    stack/webhook_etcd test_it_stops_within_a_second_though_etcd_is_silent
SIGKILL loses nothing
    state_file test_a_second_process_takes_nothing_from_the_first
    state_file test_a_full_disk_leaves_the_old_state_and_nothing_beside_it
    stack/webhook_hosts test_what_was_answered_for_survives_a_kill_at_any_moment
    stack/webhook_etcd test_a_kill_in_the_middle_of_a_large_call_is_all_or_nothing
domains and address after a start
    stack/webhook_hosts test_domains_and_cluster_address_survive_a_restart
compared every 10 s
    stack/webhook_hosts test_the_block_is_put_right_without_a_call
    stack/webhook_etcd test_keys_and_state_are_put_right_without_a_call
that media type
    api test_every_body_has_that_media_type_and_no_call_a_cors_header
GET /
    api test_negotiation
    api test_who_takes_it_gets_it
    api test_who_wants_something_else_does_not
POST /adjustendpoints is pure
    api test_adjusting_changes_nothing
    endpoints test_order_is_kept
    endpoints test_names_come_back_as_they_are_kept_and_the_rest_as_it_came
    endpoints test_what_is_not_ours_comes_back_as_it_came
    endpoints test_an_alias_to_itself_becomes_the_cluster_address
POST /records
    api test_apply_is_204_without_a_body
    messages test_keys_count_in_any_letter_case
    messages test_null_is_empty
    state test_deletes_then_updates_then_creates
    state test_old_targets_are_not_compared
    state test_what_is_not_there_is_deleted_and_updated_all_the_same
POST /domains and /clusterip
    api test_domains_at_run_time
    api test_bodies_that_are_no_domain
    api test_the_cluster_address_at_run_time
    api test_many_domains_at_once_or_none_of_them
    listener test_what_curl_sends_for_desktop_kubernetes
one bad endpoint costs itself
    api test_one_bad_endpoint_costs_itself_alone
    endpoints test_what_is_taken
    endpoints test_what_is_skipped_and_why
400
    api test_no_valid_message
    api test_errors_are_small
404 and 405
    api test_other_paths
    api test_other_methods
413
    api test_a_body_over_the_limit
    listener test_a_body_as_large_as_it_may_be_is_taken
415
    api test_media_types_of_the_two_posts
403 with an Origin
    api test_no_web_page_may_call
    listener test_a_web_page_is_turned_away_before_its_body_is_read
503 within 5 s, and nothing taken over
    state_patience test_whoever_is_away_is_waited_for_so_long_and_no_longer
    state_patience test_whoever_hangs_in_the_middle_is_waited_for_no_longer
    provider test_a_place_that_could_not_be_written_is_told_before_anything_is_to_be
    provider test_what_cannot_be_kept_is_not_taken_over
    provider test_what_cannot_be_written_is_not_taken_over
    stack/webhook_etcd test_an_etcd_that_is_away_is_a_soft_error
    stack/webhook_hosts test_a_hosts_file_that_cannot_be_written_is_a_soft_error
before the state was read
    provider test_before_the_state_was_read_everything_waits
    stack/webhook_etcd test_without_etcd_at_the_start_it_waits
aliases
    publication test_an_alias_has_the_addresses_of_its_target_through_chains
    publication test_an_alias_to_elsewhere_is_the_cluster_or_nothing
    publication test_an_alias_to_itself_or_in_a_ring
    publication test_addresses_win_over_an_alias_and_the_first_alias_over_others
bookkeeping is never published
    publication test_bookkeeping_is_never_published
wildcards
    publication test_texts_wildcards_and_this_machine_are_not_in_the_hosts_file
    stack/external_endpoints test_every_kind_of_name
keys of others stay
    stack/webhook_etcd test_names_become_keys_and_state_lives_in_etcd
every byte of the user's stays
    hosts_block test_every_byte_of_the_users_stays
    hosts_block test_a_block_in_the_middle_changes_nothing_around_it
    hosts_block test_line_ends_are_those_of_the_file
    hosts_block test_no_names_no_block
a name of the user's is the user's
    hosts_block test_a_name_on_a_line_of_the_users_is_left_to_the_user
    publication test_texts_wildcards_and_this_machine_are_not_in_the_hosts_file
torn and doubled markers
    hosts_block test_a_begin_without_end_loses_our_lines_and_nothing_else
    hosts_block test_a_lone_end_is_dropped
    hosts_block test_of_two_blocks_the_first_place_remains
how it is written
    hosts_file test_where_rename_fails_it_is_written_in_place
    hosts_file test_written_once_and_not_again
    hosts_file test_somebody_elses_change_in_between_is_not_lost
    stack/webhook_hosts test_mode_owner_and_symlink_are_kept
    stack/webhook_hosts test_nothing_differs_nothing_is_written
5,000 names
    stack/webhook_etcd test_five_thousand_names_in_one_call
"""


def held() -> list[tuple[str, str, str]]:
    """Promise, file and test of each line."""
    found, promise = [], ""
    for line in PROMISES.strip().splitlines():
        if line.startswith(" "):
            file, test = line.split()
            found.append((promise, file, test))
        else:
            promise = line
    return found


@lru_cache
def functions(file: str) -> frozenset[str]:
    """The names of the functions in a file of tests."""
    folder, _, name = file.rpartition("/")
    path = TESTS / (folder or "webhook") / f"test_{name}.py"
    return frozenset(
        node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)
    )


@pytest.mark.parametrize(("promise", "file", "test"), held())
def test_who_holds_a_promise_is_there(promise: str, file: str, test: str) -> None:
    assert test in functions(file), promise


def test_every_promise_is_held() -> None:
    promises = [line for line in PROMISES.strip().splitlines() if not line.startswith(" ")]
    assert promises == list(dict.fromkeys(promise for promise, _, _ in held()))
