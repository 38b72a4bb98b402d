//! Does a store keep its promises?
//!
//! `suite` and `races` speak to `dyn Store` only, so that every database passes the same facts: SQLite,
//! PostgreSQL, and PostgreSQL with three nodes. `files` and `crash` are about a file on a disk.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

mod calling;
mod cluster;
mod copied;
mod crash;
mod failing;
mod fence;
mod files;
mod fleet;
mod forgotten;
mod growth;
mod migrating;
mod moving;
mod network;
mod nodes;
mod old;
mod operations;
mod partitions;
mod put_back;
mod races;
mod retired;
mod shoppers;
mod suite;
mod tapping;
mod waiting;
mod week;
mod world;

use std::path::Path;
use std::sync::Arc;

use authority::store::SqlStore;
use authority::store::Store;
use authority::store::sqlite::SqliteOptions;

use cluster::Database;
use suite::{
    allowances, books, certificates, charges, intents, leaving, payments, profiles, records,
    retention, rotation, sign_ins, tags, taps, terminals, texts, trust, wallets, wear,
};
use world::World;

/// The node of every store in these tests.
const NODE: &str = "node-1";

fn open(path: &Path) -> SqlStore {
    authority::store::sqlite::open(path, SqliteOptions::new(NODE)).unwrap()
}

/// Where facts are tried, and what must stay until the end.
type Place = (World, Box<dyn std::any::Any>);

fn on_sqlite() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("m2key.db"));
    (World::new(Arc::new(store)), Box::new(dir))
}

/// One lane, and so one chain in the order of what happened.
fn on_postgres() -> Place {
    let database = Database::new();
    let store = database.open(NODE, 1);
    (World::new(Arc::new(store)), Box::new(database))
}

/// Lanes of three nodes get in each other's way.
fn among_nodes() -> Place {
    let database = Database::new();
    let nodes = [NODE, "node-2", "node-3"];
    let stores = nodes.map(|node| Arc::new(database.open(node, 3)) as Arc<dyn Store>);
    (World::among(stores.into()), Box::new(database))
}

/// Each fact in a fresh place; then books and audit are checked.
macro_rules! facts {
    ($place:ident, $at:ident, $($module:ident: $($fact:ident),+);+ $(;)?) => {
        mod $place {$($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $fact() {
                let (world, _kept) = super::$at();
                // What a fact is about is not how long a full machine takes.
                authority::store::unhurried(async {
                    super::$module::$fact(&world).await;
                    world.check_books_and_audit().await;
                })
                .await;
            }
        )+)+}
    };
}

macro_rules! suite {
    ($place:ident, $at:ident) => {
        facts! { $place, $at,
        terminals:
            a_key_is_added_once,
            a_terminal_is_added_once_with_seed_and_join_token,
            seeds_are_found_by_epoch,
            the_last_seeds_come_first_and_no_more_than_asked_for,
            a_ban_ends_what_is_held_and_stays_the_first,
            a_banned_terminal_is_refused_everywhere,
            schedule_sequences_rise_and_the_horizon_never_shrinks,
            a_join_token_is_bound_to_the_first_key,
            a_certificate_is_recorded_once,
            merchants_are_listed_in_order;
        certificates:
            a_join_token_is_answered_with_the_same_certificate,
            a_join_token_that_was_taken_back_answers_nothing,
            a_certificate_has_one_successor,
            a_successor_that_was_set_aside_unused_is_renewed_in_its_turn,
            holders_are_those_whose_certificates_can_still_be_used,
            the_old_certificate_is_good_until_the_new_one_is_used,
            a_request_is_judged_by_its_certificate_and_by_its_terminal,
            a_replaced_machine_is_refused_once_its_successor_came,
            a_successor_that_ended_unused_is_renewed_in_its_turn,
            one_terminal_is_issued_so_many_and_no_more,
            a_ban_revokes_what_could_still_be_renewed,
            a_ban_between_join_token_and_record_leaves_no_certificate,
            a_revoked_certificate_stays_on_its_list_until_it_ended,
            numbers_of_lists_never_go_back,
            an_alarm_is_counted_and_does_not_fill_the_disk,
            what_is_in_force_is_counted_by_kind;
        allowances:
            five_payments_go_without_strong_authentication_and_the_sixth_does_not,
            racing_payments_do_not_both_find_room_for_one,
            own_limits_and_caps_hold_and_say_when_they_end,
            a_merchant_is_paid_no_more_than_its_day_allows,
            a_locked_profile_claims_and_pays_nothing,
            a_person_holds_so_many_claims_and_no_more,
            a_declined_intent_gives_back_what_it_took,
            what_was_never_counted_is_not_given_back,
            a_challenge_confirms_its_own_payment_once,
            a_counter_goes_only_forward_unless_there_is_none,
            passkeys_are_named_removed_and_of_one_profile,
            few_challenges_wait_and_the_oldest_makes_room;
        rotation:
            one_key_of_a_purpose_is_active_and_steps_may_be_repeated,
            a_key_is_not_retired_while_a_seed_under_it_counts,
            new_seeds_are_counted_once_with_their_operation,
            a_token_of_a_replaced_seed_is_refused_in_the_transaction,
            a_schedule_of_keys_of_a_replaced_seed_is_not_counted,
            a_seed_under_a_replaced_key_is_not_added,
            an_operation_ends_once_and_keeps_its_rows;
        tags:
            a_counter_spends_one_token_and_a_lower_one_above_the_floor_another,
            a_link_that_was_read_before_the_last_write_is_refused,
            a_terminal_whose_tag_signs_takes_no_unsigned_link_from_it,
            a_tag_counts_at_its_own_terminal_with_keys_that_were_made_for_it,
            a_retired_tag_is_refused_and_does_not_bind_its_terminal,
            new_keys_end_the_old_ones_once_the_tag_has_them,
            only_an_operator_unbinds_a_terminal_whose_tag_signs,
            keys_are_made_once_of_each_version_and_for_few_tags,
            a_tag_counts_while_its_master_key_is_believed_and_keeps_it;
        charges:
            a_charge_is_started_once_and_one_at_a_time,
            an_overdue_charge_makes_way_for_the_next,
            an_ended_charge_stays_ended_and_releases_its_claim,
            what_is_due_comes_oldest_first,
            a_claim_spends_moves_and_holds,
            a_token_whose_turn_has_moved_on_is_refused,
            a_refused_claim_spends_nothing,
            a_terminal_without_a_till_takes_fixed_or_open_charges,
            turns_end_at_the_last_one,
            a_charge_released_three_times_ends;
        payments:
            an_approval_pays_once_and_answers_the_same_again,
            an_approval_that_comes_too_late_moves_nothing,
            an_open_charge_is_paid_as_approved,
            a_claim_by_a_known_person_is_paid_by_nobody_else,
            the_first_receipt_stays,
            the_terminal_is_told_paid_only_with_a_receipt,
            the_terminal_is_told_turns_of_its_own_and_of_late_epochs;
        intents:
            an_intent_becomes_a_payment_with_its_last_step,
            an_account_is_asked_once_for_a_claim,
            while_a_rail_is_asked_nobody_else_pays_or_releases,
            a_charge_that_ends_turns_an_intent_back_unless_it_is_being_taken,
            what_is_being_taken_is_not_ended_by_till_or_ban,
            a_refused_capture_is_taken_back,
            what_is_due_is_found_by_rail_and_time_and_counted,
            service_accounts_are_listed_as_they_are_offered;
        books:
            money_goes_back_to_the_account_that_paid_and_never_more,
            a_refund_is_one_however_often_it_is_asked_for,
            a_refund_that_is_refused_moves_nothing,
            nothing_is_given_back_to_a_profile_that_is_deleted,
            the_refunds_of_a_day_end_at_the_cap,
            both_sides_read_the_same_history_page_by_page,
            a_closed_day_is_the_change_of_the_ledger_and_stays_it,
            a_cut_that_is_not_later_closes_nothing,
            pins_are_counted_before_they_are_compared,
            right_pins_in_between_do_not_give_a_guesser_more_than_a_days_misses;
        leaving:
            who_deletes_the_profile_and_comes_back_goes_on_counting,
            who_leaves_again_and_again_goes_on_counting,
            who_leaves_after_a_strong_authentication_begins_with_little,
            what_left_is_kept_so_long_and_no_longer,
            an_identity_that_is_unlinked_takes_the_count_along,
            a_profile_that_is_joined_stands_where_the_worse_of_both_stood,
            wrong_codes_go_along_too,
            wrong_codes_of_who_comes_back_count_once,
            nobody_leaves_while_a_sign_in_of_theirs_holds_a_claim;
        records:
            accounts_are_one_per_person_and_currency,
            a_credit_reference_counts_once,
            misses_are_counted_per_person_and_window,
            reports_are_stored_once_and_by_their_own_terminal,
            checkpoints_come_in_order,
            pseudonyms_differ_between_merchants,
            the_audit_names_nobody;
        wear:
            a_tag_is_as_worn_as_was_told_last_and_a_lost_count_is_not_lost,
            a_tag_is_due_since_it_first_had_the_margin_left,
            tags_end_in_their_order_page_after_page_and_banned_terminals_need_none,
            what_was_told_keeps_its_pace_and_what_was_not_gets_the_new_one,
            paces_that_nothing_is_judged_by_any_more_are_forgotten,
            a_terminal_that_follows_no_paces_gets_none_from_its_schedule_on;
        taps:
            a_claim_rings_without_a_read_and_only_once_the_terminal_is_past_its_window,
            claims_that_were_read_do_not_ring,
            a_read_that_the_tag_signed_explains_its_claim,
            what_the_tag_signed_needs_no_count_to_be_explained,
            a_window_that_was_never_issued_is_no_link_of_a_tag,
            a_link_that_was_on_the_tag_too_long_says_nothing,
            a_claim_of_another_channel_needs_no_read,
            reads_of_one_link_explain_no_claim_of_the_next,
            after_a_failed_visit_reads_count_for_both_links,
            what_was_not_counted_does_not_ring,
            a_counter_that_went_back_rings_unless_it_is_known_to_begin,
            many_more_reads_than_on_the_days_before_ring,
            a_day_on_which_nothing_was_counted_tightens_no_bound,
            links_used_at_two_places_ring_when_they_are_many,
            a_closed_alarm_stays_closed_until_there_is_twice_as_much,
            days_and_closed_alarms_are_forgotten_and_open_ones_are_not,
            a_dispute_says_what_the_tag_counted_and_what_rings,
            a_dispute_says_since_when_is_kept_what_the_terminal_saw;
        retention:
            the_fence_only_rises_and_no_token_below_it_is_accepted,
            what_is_behind_the_fence_goes_and_is_not_accepted_again,
            a_report_goes_behind_its_fence_and_is_not_kept_again;
        trust:
            what_a_terminal_follows_is_what_it_said_last,
            only_terminals_in_service_hold_a_root_back;
        sign_ins:
            a_session_is_found_by_its_secret_until_it_ends,
            a_new_sign_in_of_a_browser_ends_the_one_before,
            a_sign_in_comes_back_once_and_to_its_own_browser,
            a_claim_is_held_longer_while_signing_in_and_after_it_once,
            signing_in_afterwards_holds_no_more_claims,
            what_a_provider_opened_ends_when_it_is_gone,
            one_browser_begins_so_many_sign_ins_and_no_more,
            a_full_table_of_sign_ins_refuses_nobody,
            a_profile_has_so_many_sessions_and_no_more,
            a_provider_ends_sessions_of_its_own_and_says_so_once,
            what_is_over_is_forgotten;
        profiles:
            an_identity_brings_its_accounts_and_takes_them_back,
            an_identity_joins_the_profile_of_the_session_that_asked,
            an_identity_of_a_profile_in_use_does_not_move,
            an_identity_of_an_empty_profile_moves,
            an_identity_leaves_and_the_last_one_stays,
            a_default_account_is_offered_first,
            a_profile_that_is_deleted_names_nobody_and_comes_not_back,
            a_profile_with_money_or_a_claim_is_not_deleted;
        wallets:
            a_proof_is_shown_once_even_when_many_show_it,
            nonces_have_one_key_whichever_node_was_first,
            a_request_is_carried_out_by_one_of_many_who_ask,
            whoever_asks_again_goes_on_with_the_same_claim,
            the_first_refusal_stays_until_it_is_forgotten,
            one_key_has_so_many_requests_and_no_more,
            an_approval_is_kept_with_its_claim_and_serves_no_other;
        texts:
            a_text_is_kept_once_by_its_id_and_by_its_words,
            who_writes_too_much_is_not_answered,
            a_turn_is_taken_whole_or_not_at_all,
            a_phone_has_one_talk_at_a_time,
            a_wrong_number_is_counted_once_and_for_the_phone,
            an_sms_waits_until_the_gateway_has_it,
            old_texts_are_forgotten_but_none_that_waits,
            an_account_pays_no_more_than_its_caps,
            payments_that_race_do_not_pass_a_cap_together;
        }
    };
}

macro_rules! races {
    ($place:ident, $at:ident) => {
        facts! { $place, $at,
        races:
            a_token_is_spent_once_even_when_two_hundred_phones_race,
            a_tap_spends_one_token_even_when_two_links_with_its_counter_race,
            a_charge_is_held_by_one_of_two_phones,
            a_claim_is_paid_once_even_when_asked_twice,
            a_claim_is_paid_or_released_never_both,
            a_charge_is_paid_or_ended_never_both,
            a_ban_and_a_claim_leave_nothing_held,
            an_account_is_never_overdrawn,
            refunds_that_race_never_give_back_more_than_was_paid,
            what_is_booked_while_a_day_closes_is_in_exactly_one_file,
            a_join_token_serves_one_of_two_keys,
            claims_of_many_terminals_share_commits;
        operations:
            any_order_of_operations_keeps_the_books;
        allowances:
            racing_payments_do_not_both_find_room_for_one;
        texts:
            payments_that_race_do_not_pass_a_cap_together;
        }
    };
}

suite!(sqlite, on_sqlite);
suite!(postgres, on_postgres);
races!(sqlite_races, on_sqlite);
races!(postgres_races, among_nodes);
facts! { postgres_duels, among_nodes,
races:
    a_token_that_two_nodes_are_asked_for_is_spent_at_one_ten_thousand_times;
}
