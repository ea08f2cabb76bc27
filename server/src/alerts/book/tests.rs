use gradwatch_rules::ReceiverKind;
use gradwatch_store::sqlite::SqliteStore;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER_SECRET: &str = "whsec_b3RoZXIgc2VjcmV0IG9mIGEgdGVzdCwgYnl0ZXM=";
const FILE: &str = "
receivers:
  - {name: filed, slack: {url_env: SLACK_URL}}
rules:
  - {name: filed, when: scalar.loss > 1, receivers: [filed]}
";

struct Desk {
    book: RuleBook,
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    dir: TempDir,
}

impl Desk {
    async fn new(file: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(dir.path()).await.unwrap());
        let metrics = Arc::new(Metrics::new());
        let path = dir.path().join("rules.yaml");
        if let Some(text) = file {
            std::fs::write(&path, text).unwrap();
        }
        let path = file.is_some().then_some(path);
        let book = RuleBook::open(Arc::clone(&store), Arc::clone(&metrics), path).await.unwrap();
        Self { book, store, metrics, dir }
    }

    fn write(&self, text: &str) {
        std::fs::write(self.dir.path().join("rules.yaml"), text).unwrap();
    }

    /// Rules with revisions, as they are in force.
    fn rules(&self) -> Vec<(String, u32)> {
        self.book.current().rules.iter().map(|rule| (rule.name.clone(), rule.revision)).collect()
    }

    /// What is in force is what is stored.
    async fn assert_kept(&self) {
        let set = self.book.current();
        assert_eq!(set.rules, self.store.alert_rules().await.unwrap());
        let receivers: Vec<_> = set.receivers.values().map(|receiver| receiver.stored.clone()).collect();
        assert_eq!(receivers, self.store.alert_receivers().await.unwrap());
        let active: Vec<_> = set.active.iter().map(|rule| (rule.rule_id, rule.revision)).collect();
        assert_eq!(active, set.rules.iter().map(|rule| (rule.rule_id, rule.revision)).collect::<Vec<_>>());
    }
}

fn rule(definition: Value) -> RuleDefinition {
    serde_json::from_value(definition).unwrap()
}

fn receiver(name: &str, secrets: &[&str]) -> ReceiverDefinition {
    let webhook = json!({ "url": "https://example.org/hook", "secrets": secrets });
    serde_json::from_value(json!({ "name": name, "webhook": webhook })).unwrap()
}

fn message<T: std::fmt::Debug>(result: Result<T, BookError>) -> String {
    result.unwrap_err().to_string()
}

#[tokio::test]
async fn rules_and_receivers_are_made_replaced_and_removed() {
    let desk = Desk::new(None).await;
    let book = &desk.book;
    let low = |when: &str, receivers: &[&str]| rule(json!({ "name": "low", "when": when, "receivers": receivers }));
    assert!(message(book.put_rule(low("scalar.loss < 1", &["ops"]), true, None).await).contains("no receiver \"ops\""));
    book.put_receiver(receiver("ops", &[SECRET]), true).await.unwrap();
    let made = book.put_rule(low("scalar.loss < 1", &["ops"]), true, None).await.unwrap();
    assert_eq!((made.revision, made.source, made.project.as_deref()), (1, AlertSource::Api, None));
    desk.assert_kept().await;

    assert!(matches!(book.put_rule(low("scalar.loss < 1", &[]), true, None).await, Err(BookError::Conflict(_))));
    assert!(matches!(book.put_receiver(receiver("ops", &[SECRET]), true).await, Err(BookError::Conflict(_))));
    assert!(message(book.delete_receiver("ops").await).contains("rule \"low\" names"));
    // Texts are no other rule; another condition is.
    let same = book.put_rule(low("scalar.loss < 1", &[]), false, None).await.unwrap();
    assert_eq!((same.rule_id, same.revision, same.active_from_us), (made.rule_id, 1, made.active_from_us));
    let other = book.put_rule(low("scalar.loss < 2", &[]), false, None).await.unwrap();
    assert_eq!((other.rule_id, other.revision), (made.rule_id, 2));
    assert!(other.active_from_us >= made.active_from_us);

    book.delete_receiver("ops").await.unwrap();
    book.delete_rule("low", None).await.unwrap();
    desk.assert_kept().await;
    assert_eq!(desk.rules(), []);
    for unknown in [book.delete_rule("low", None).await, book.delete_receiver("ops").await] {
        assert!(matches!(unknown, Err(BookError::Unknown(_))));
    }
    assert!(matches!(book.put_rule(low("scalar.loss < 1", &[]), false, None).await, Err(BookError::Unknown(_))));
    assert!(matches!(book.enable("ops").await, Err(BookError::Unknown(_))));
    assert!(matches!(book.reload().await, Err(BookError::Conflict(_))));
}

#[tokio::test]
async fn what_cannot_be_used_changes_nothing() {
    let desk = Desk::new(None).await;
    let problems = desk.book.put_rule(rule(json!({ "name": "bad", "when": "edge.rato < 1" })), true, None).await;
    let Err(BookError::Problems(problems)) = problems else { panic!("{problems:?}") };
    assert_eq!(problems[0].field, "when");
    assert!(problems[0].position.is_some());
    let problems = desk.book.put_receiver(receiver("ops", &["not a secret"]), true).await;
    assert!(matches!(problems, Err(BookError::Problems(_))), "{problems:?}");
    desk.assert_kept().await;
}

#[tokio::test]
async fn secrets_stay_that_are_written_back_as_they_are_shown() {
    let desk = Desk::new(None).await;
    desk.book.put_receiver(receiver("ops", &[SECRET]), true).await.unwrap();
    desk.book.put_receiver(receiver("ops", &["***"]), false).await.unwrap();
    let set = desk.book.current();
    let ReceiverKind::Webhook { secrets, .. } = &set.receivers["ops"].definition.kind else { panic!() };
    assert_eq!(secrets, &[SECRET]);
    assert!(matches!(desk.book.put_receiver(receiver("new", &["***"]), true).await, Err(BookError::Problems(_))));
}

#[tokio::test]
async fn a_receiver_is_disabled_until_it_is_enabled_or_changed() {
    let desk = Desk::new(None).await;
    let is_disabled = || desk.book.current().receivers["ops"].stored.disabled.is_some();
    desk.book.put_receiver(receiver("ops", &[SECRET]), true).await.unwrap();
    let asked = || desk.book.current().receivers["ops"].stored.clone();
    let before = asked();
    desk.book.put_receiver(receiver("ops", &[SECRET, OTHER_SECRET]), false).await.unwrap();
    // What it was asked to be told no more, but not what it is.
    desk.book.disable(&before, "410 Gone".into()).await.unwrap();
    assert!(!is_disabled());
    desk.book.disable(&asked(), "410 Gone".into()).await.unwrap();
    assert!(is_disabled());
    // The same again says nothing new.
    desk.book.put_receiver(receiver("ops", &["***", "***"]), false).await.unwrap();
    assert!(is_disabled());
    desk.book.enable("ops").await.unwrap();
    assert!(!is_disabled());
}

#[tokio::test]
async fn the_file_is_taken_whole_or_not_at_all() {
    let desk = Desk::new(Some(FILE)).await;
    let failed = || desk.metrics.alert_rules_reload_failed.get();
    let before = desk.book.current();
    assert_eq!((desk.rules(), failed()), (vec![("filed".to_owned(), 1)], 0));

    desk.write(&format!("{FILE}  - {{name: bad, when: '1 +'}}\n"));
    let Err(BookError::Problems(problems)) = desk.book.reload().await else { panic!() };
    assert_eq!((problems[0].field.as_str(), problems[0].position.unwrap().line), ("rules[1].when", 6));
    assert_eq!((failed(), &before.rules), (1, &desk.book.current().rules));

    desk.write(&FILE.replace("loss > 1", "loss > 2"));
    desk.book.look().await;
    assert_eq!((desk.rules(), failed()), (vec![("filed".to_owned(), 2)], 0));
    desk.assert_kept().await;
    std::fs::remove_file(desk.dir.path().join("rules.yaml")).unwrap();
    desk.book.look().await;
    assert_eq!((desk.rules(), failed()), (vec![("filed".to_owned(), 2)], 1));
}

#[tokio::test]
async fn what_the_file_owns_is_changed_there_only() {
    let desk = Desk::new(Some(FILE)).await;
    let book = &desk.book;
    let definition = || rule(json!({ "name": "filed", "when": "scalar.loss < 1" }));
    for refused in [
        message(book.put_rule(definition(), false, None).await),
        message(book.delete_rule("filed", None).await),
        message(book.delete_receiver("filed").await),
        message(book.put_receiver(receiver("filed", &[SECRET]), false).await),
    ] {
        assert!(refused.contains("belongs to the file of rules"), "{refused}");
    }
    // A rule made over REST may tell a receiver of the file, which must then stay.
    let made = rule(json!({ "name": "made", "when": "scalar.loss < 1", "receivers": ["filed"] }));
    book.put_rule(made, true, None).await.unwrap();
    desk.write("receivers: []\nrules: []\n");
    assert!(message(book.reload().await).contains("names \"filed\""));
    desk.write(&FILE.replace("name: filed, when", "name: made, when"));
    assert!(message(book.reload().await).contains("rules[0].name"));
    assert_eq!(desk.rules(), [("filed".to_owned(), 1), ("made".to_owned(), 1)]);
    desk.assert_kept().await;
}

#[tokio::test]
async fn a_rule_of_another_project_is_as_good_as_unknown() {
    let desk = Desk::new(None).await;
    let book = &desk.book;
    let of =
        |project: Option<&str>| rule(json!({ "name": "r", "when": "run.crashed", "select": { "project": project } }));
    for (owner, stranger) in [(Some("alpha"), "beta"), (None, "alpha")] {
        book.put_rule(of(owner), true, None).await.unwrap();
        let taken = book.put_rule(of(Some(stranger)), false, Some(stranger)).await;
        assert!(matches!(taken, Err(BookError::Unknown(_))), "{taken:?}");
        assert!(matches!(book.delete_rule("r", Some(stranger)).await, Err(BookError::Unknown(_))));
        assert_eq!(book.current().rules[0].project.as_deref(), owner);
        book.delete_rule("r", owner).await.unwrap();
    }
}

#[tokio::test]
async fn there_are_no_more_receivers_than_a_file_may_have() {
    let desk = Desk::new(Some(FILE)).await;
    for index in 1..MAX_RECEIVERS {
        desk.book.put_receiver(receiver(&format!("r{index}"), &[SECRET]), true).await.unwrap();
    }
    let more = desk.book.put_receiver(receiver("more", &[SECRET]), true).await;
    assert!(message(more).contains("there are 200 receivers"));
    // One that is there can be changed.
    desk.book.put_receiver(receiver("r1", &[SECRET]), false).await.unwrap();
    desk.write(&FILE.replace("rules:", "  - {name: more, slack: {url_env: SLACK_URL}}\nrules:"));
    assert!(message(desk.book.reload().await).contains("2 and the 199 made over REST are more than 200"));
    desk.assert_kept().await;
}
