//! Query plans and damaged rows.

use super::*;
use deliveries::EnvelopeQuery;

/// Returns SQLite's query plan.
async fn plan(fixture: &Fixture, sql: &str) -> String {
    let sql = format!("EXPLAIN QUERY PLAN {sql}");
    let read = fixture.store.read(move |db| {
        let mut statement = db.prepare(&sql)?;
        for number in 1..=statement.parameter_count() {
            statement.raw_bind_parameter(number, 0)?;
        }
        let mut lines = statement.raw_query();
        let mut plan = String::new();
        while let Some(line) = lines.next()? {
            plan += &line.get::<_, String>("detail")?;
            plan.push('\n');
        }
        Ok(plan)
    });
    read.await.unwrap()
}

#[tokio::test]
async fn queues_are_read_by_their_indices() {
    let fixture = Fixture::new().await;
    let queue = deliveries::envelopes_sql(EnvelopeQuery::QUEUE);
    let set_aside = deliveries::envelopes_sql(EnvelopeQuery::SET_ASIDE);
    let [queued, all_set_aside, held] = EnvelopeQuery::EVERYTHING.map(deliveries::envelopes_sql);
    let by_state = "envelopes_waiting (account_id=? AND queue_state=?";
    let queries = [
        (queue, by_state),
        (queued, by_state),
        (all_set_aside, by_state),
        (held, by_state),
        (set_aside, "envelopes_set_aside (account_id=?)"),
        (deliveries::DUE_LANES.to_owned(), "lanes_due (is_failing=?"),
        (
            deliveries::EVENTS.to_owned(),
            "events_waiting (account_id=?)",
        ),
    ];
    for (sql, index) in queries {
        let plan = plan(&fixture, &sql).await;
        assert!(
            plan.contains(index)
                && !plan.contains("TEMP B-TREE")
                && !plan
                    .lines()
                    .any(|line| line.starts_with("SCAN") && line != "SCAN e"),
            "{sql}\n{plan}"
        );
    }
}

#[tokio::test]
async fn damaged_rows_are_reported() {
    let fixture = Fixture::new().await;
    fixture.submit(0).await.unwrap();
    let damage = |sql: &'static str| fixture.store.write(move |db| Ok(db.execute_batch(sql)?));
    damage("UPDATE envelopes SET state = 99").await.unwrap();
    let status = fixture.store.load_statuses(ACME, vec![envelope(0)]).await;
    assert_eq!(
        status,
        Err(Damaged::new("envelopes", "state").into()),
        "an unknown state is refused"
    );
    damage("UPDATE lanes SET lane_state = '{}'").await.unwrap();
    let state = fixture.store.load_account_state(BOLT).await;
    assert_eq!(state, Err(Damaged::new("lanes", "lane_state").into()));
}
