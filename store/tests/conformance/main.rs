//! What every store must do. Each backend runs the same cases; a case gets an empty store.

mod alert_commits;
mod alert_fixture;
mod alert_messages;
mod alert_rules;
mod alert_values;
mod analyses;
mod attempts;
mod commits;
mod events;
mod fixture;
mod layers;
mod lifecycle;
mod pages;
mod predictions;
mod round_trip;
mod runs;
mod schema;
mod series;
mod sketches;
mod snapshots;
mod tokens;

/// Makes one test of every case for a backend: `$open` gives an empty store and whatever must outlive it.
macro_rules! suite {
    ($backend:ident, $open:path) => {
        mod $backend {
            suite!(@cases $open;
                attempts::opening_is_idempotent,
                attempts::reconnecting_sets_nothing_back,
                attempts::a_second_writer_is_refused,
                attempts::an_unrelated_launch_must_say_so,
                attempts::an_unrelated_launch_stands_last_whatever_its_clock_says,
                attempts::a_changed_declaration_is_refused,
                attempts::what_is_resumed_must_exist,
                attempts::the_newest_attempt_is_found_out_once,
                attempts::shards_join_one_attempt,
                attempts::marks_are_those_of_the_segment,
                attempts::a_new_attempt_runs_again,
                attempts::an_attempt_that_comes_to_be_known_late_changes_nothing_of_the_run,
                attempts::the_project_is_fixed,
                attempts::concurrent_openings_agree,
                commits::marks_and_counters_move,
                commits::a_lost_mark_rolls_back_every_run,
                commits::a_lost_epoch_rolls_back_every_run,
                commits::a_number_is_taken_once,
                commits::an_owner_counts_anew,
                commits::a_unique_violation_rolls_back_every_run,
                commits::refused_data_rolls_back_every_run,
                commits::the_sequence_and_event_ids_grow,
                commits::rows_need_their_segment,
                commits::a_run_comes_once_in_a_commit,
                commits::follower_snapshots_are_replaced,
                commits::concurrent_commits_are_each_whole,
                commits::a_large_commit_is_whole,
                round_trip::steps,
                round_trip::readings,
                round_trip::absent_and_present_readings_differ,
                round_trip::non_finite_readings_are_refused,
                round_trip::segments_and_runs,
                pages::steps_over_a_rewind,
                pages::readings_over_a_rewind,
                pages::every_page_size_gives_the_same,
                pages::latest_readings_are_one_a_stream,
                series::every_metric_is_that_of_the_reading,
                series::scalars_keep_what_they_were,
                series::analyses_and_streams_are_kept_apart,
                series::rollups_wholly_inside,
                series::scalar_names_are_sorted,
                events::order_and_paging,
                events::events_are_filtered,
                events::ranges,
                runs::runs_are_filtered,
                runs::sort_and_cursor,
                runs::labels,
                runs::overview,
                lifecycle::deletion_hides_then_purges,
                lifecycle::deletion_leaves_other_runs,
                lifecycle::expiry,
                lifecycle::durability,
                lifecycle::unknown_runs,
                layers::readings_come_back_bit_for_bit,
                layers::what_no_column_holds_is_refused,
                layers::a_reading_is_stored_once,
                layers::pages_over_a_rewind,
                layers::latest_readings_are_one_a_layer,
                layers::every_field_is_a_series,
                layers::declared_layers_stand,
                snapshots::pending_snapshots_come_oldest_first,
                snapshots::a_reading_takes_its_snapshot_away,
                snapshots::a_commit_may_hold_a_snapshot_and_its_reading,
                snapshots::a_lost_commit_leaves_nothing,
                snapshots::rows_of_layers_need_their_segment,
                snapshots::large_payloads_come_back,
                snapshots::followers_of_layers_are_kept_apart,
                predictions::predictions_are_kept_and_dropped,
                predictions::predictions_come_in_the_order_of_the_ranges,
                predictions::what_is_not_finite_is_refused,
                sketches::blocks_come_back_in_order,
                sketches::a_deletion_takes_all_that_is_older,
                sketches::what_an_analysis_reads_is_not_deleted,
                analyses::an_analysis_begins_where_the_run_stands,
                analyses::what_cannot_begin_is_refused,
                analyses::commits_follow_each_other,
                analyses::a_refused_commit_leaves_nothing,
                analyses::a_deleted_analysis_takes_its_readings_only,
                analyses::a_run_takes_its_analyses_with_it,
                alert_rules::rules_come_back_as_they_were,
                alert_rules::receivers_come_back_as_they_were,
                alert_rules::a_receiver_takes_with_it_what_it_was_to_be_told,
                alert_rules::a_file_is_replaced_as_a_whole,
                alert_rules::silences_come_back_as_they_were,
                alert_commits::an_evaluation_comes_back_as_it_was,
                alert_commits::an_evaluation_lands_once_and_whole,
                alert_commits::one_alert_of_a_rule_run_and_group_is_open,
                alert_commits::of_concurrent_evaluations_one_lands,
                alert_commits::evaluating_and_recording_go_on_together,
                alert_commits::many_rows_are_whole,
                alert_commits::alerts_are_filtered_and_paged,
                alert_commits::runs_to_evaluate_are_found,
                alert_commits::a_deleted_run_takes_its_alerts_with_it,
                alert_messages::a_message_is_sealed_once,
                alert_messages::waiting_messages_are_counted_with_the_age_of_the_oldest,
                alert_messages::what_is_silenced_hides_nothing,
                alert_messages::what_would_be_due_in_more_than_a_day_is_due,
                alert_messages::messages_of_a_key_are_taken_in_order,
                alert_messages::concurrent_claims_are_apart,
                alert_messages::what_was_attempted_is_shown,
                alert_messages::a_message_is_sent_again,
                alert_messages::what_is_over_is_deleted,
                alert_values::metrics_of_a_stream,
                alert_values::scalars_of_steps_over_a_rewind,
                alert_values::fields_of_layers,
                tokens::tokens_come_back_as_they_were,
                tokens::a_hash_and_an_id_are_taken_once,
                tokens::a_token_is_revoked_once,
            );
        }
    };
    (@cases $open:path; $($module:ident :: $case:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let (store, _keep) = $open().await;
                crate::$module::$case(store.clone()).await;
                store.close().await;
            }
        )*
    };
}

async fn open_sqlite() -> (std::sync::Arc<dyn gradwatch_store::Store>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let store = gradwatch_store::sqlite::SqliteStore::open(dir.path()).await.unwrap();
    (std::sync::Arc::new(store), dir)
}

suite!(sqlite, crate::open_sqlite);

async fn open_postgres() -> (std::sync::Arc<dyn gradwatch_store::Store>, gradwatch_test_postgres::TestDatabase) {
    let database = gradwatch_test_postgres::TestDatabase::new();
    let store = gradwatch_store::postgres::PostgresStore::open(database.url()).await.unwrap();
    (std::sync::Arc::new(store), database)
}

suite!(postgres, crate::open_postgres);
