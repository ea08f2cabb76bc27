//! A message as Slack shows it, and what speaks Slack's format of incoming webhooks.

use gradwatch_store::Message;
use serde_json::{Value, json};

use super::content::{Content, FIRING};
use crate::alerts::notice::Notice;

/// The most alerts shown of one message. Slack takes 50 blocks.
const MAX_SHOWN: usize = 20;
/// The most characters of parts of a block, once they are escaped: together less than the 3,000 that Slack takes.
const MAX_FIELD_CHARS: usize = 150;
const MAX_URL_CHARS: usize = 500;
const MAX_SUMMARY_CHARS: usize = 1_000;

/// The document.
pub(super) fn body(message: &Message, content: &Content) -> Value {
    if content.test {
        let text = format!("Test message of gradwatch to {}", escaped(&message.receiver, MAX_FIELD_CHARS));
        return json!({"text": text, "blocks": [section(&text)]});
    }
    let title = title(content);
    let mut blocks = vec![section(&format!("*{title}*"))];
    blocks.extend(content.alerts.iter().take(MAX_SHOWN).map(|notice| section(&alert(notice))));
    let more = content.alerts.len().saturating_sub(MAX_SHOWN);
    if more > 0 {
        blocks.push(section(&format!("and {more} more")));
    }
    json!({"text": title, "blocks": blocks})
}

fn section(text: &str) -> Value {
    // Otherwise Slack makes links and mentions of what looks like some.
    json!({"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": true}})
}

/// Such as `[FIRING 2, RESOLVED 1] gap-collapse`.
fn title(content: &Content) -> String {
    let firing = content.alerts.iter().filter(|notice| notice.status == FIRING).count();
    let counts = match (firing, content.alerts.len() - firing) {
        (firing, 0) => format!("FIRING {firing}"),
        (0, resolved) => format!("RESOLVED {resolved}"),
        (firing, resolved) => format!("FIRING {firing}, RESOLVED {resolved}"),
    };
    let group: Vec<String> = content.group.values().map(|value| escaped(value, MAX_FIELD_CHARS)).collect();
    format!("[{counts}] {}", group.join(" / ")).trim_end().to_owned()
}

fn alert(notice: &Notice) -> String {
    let field = |text: &str| escaped(text, MAX_FIELD_CHARS);
    let run = if notice.run_name.is_empty() { notice.run_id.to_string() } else { notice.run_name.clone() };
    let run = match &notice.url {
        // A bar would end the address. One that is cut leads elsewhere.
        Some(url) if !url.contains('|') && escaped(url, usize::MAX).len() <= MAX_URL_CHARS => {
            format!("<{}|{}>", escaped(url, MAX_URL_CHARS), field(&run))
        }
        _ => field(&run),
    };
    let (mark, when) = match (notice.status == FIRING, notice.resolved_step) {
        (true, _) => (":red_circle:", format!("since step {}", notice.fired_step)),
        (false, Some(step)) => (":large_green_circle:", format!("from step {} to {step}", notice.fired_step)),
        (false, None) => (":large_green_circle:", format!("fired at step {}", notice.fired_step)),
    };
    let group = if notice.group.is_empty() { String::new() } else { format!(", {}", field(&notice.group)) };
    format!(
        "{mark} *{}* ({}) {run} in {}{group}, {when}\n{}",
        field(&notice.rule),
        field(&notice.severity),
        field(&notice.project),
        escaped(&notice.summary, MAX_SUMMARY_CHARS),
    )
}

/// Text that Slack shows as it is: nothing in it is a link, a mention or a call of a channel. At most `max_chars` long.
fn escaped(text: &str, max_chars: usize) -> String {
    let (mut escaped, mut chars) = (String::new(), 0);
    for character in text.chars() {
        let entity = match character {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            _ => "",
        };
        let width = entity.len().max(1);
        // Room for the mark that it goes on.
        if chars + width >= max_chars {
            escaped.push('…');
            break;
        }
        chars += width;
        if entity.is_empty() { escaped.push(character) } else { escaped.push_str(entity) }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::delivery::{content::new_message, sample};

    fn shown(alerts: Vec<Notice>) -> Value {
        let receiver = sample::receiver(json!({"slack": {"url": "https://hooks.slack.com/x"}}));
        let content = Content::new(&receiver, alerts);
        body(&new_message("r", "g", content.clone(), 0), &content)
    }

    fn texts(body: &Value) -> Vec<&str> {
        body["blocks"].as_array().unwrap().iter().map(|block| block["text"]["text"].as_str().unwrap()).collect()
    }

    #[test]
    fn alerts_are_shown_one_a_block() {
        let mut firing = sample::notice("gap", 1);
        firing.url = Some("https://gradwatch.example.org/runs/1".to_owned());
        let over = sample::resolved(&sample::notice("gap", 2));
        let body = shown(vec![firing, over]);
        assert_eq!(body["text"], "[FIRING 1, RESOLVED 1] gap");
        assert_eq!(
            texts(&body),
            [
                "*[FIRING 1, RESOLVED 1] gap*",
                ":red_circle: *gap* (warning) <https://gradwatch.example.org/runs/1|first run> in p, all, since step \
                 100\nthe gap is gone",
                ":large_green_circle: *gap* (warning) first run in p, all, from step 100 to 150\nthe gap is gone",
            ]
        );
    }

    #[test]
    fn nothing_that_a_user_wrote_is_markup() {
        let mut notice = sample::notice("<!channel>", 1);
        (notice.run_name, notice.summary) = ("a & b".to_owned(), "<https://evil.example|click> <@U1>".to_owned());
        let body = shown(vec![notice]);
        for block in body["blocks"].as_array().unwrap() {
            assert_eq!(block["text"]["verbatim"], true, "plain text is no link and no mention either");
        }
        let body = body.to_string();
        assert!(!body.contains('<') && !body.contains('>'), "{body}");
        assert!(body.contains("&lt;!channel&gt;") && body.contains("a &amp; b"), "{body}");
    }

    #[test]
    fn lengths_are_those_that_slack_takes() {
        let long = "<&".repeat(100_000);
        let alerts = (0..100).map(|alert| {
            let mut notice = sample::notice(&long, alert);
            (notice.run_name, notice.summary, notice.group) = (long.clone(), long.clone(), long.clone());
            (notice.project, notice.severity, notice.url) = (long.clone(), long.clone(), Some("a".repeat(500)));
            notice
        });
        let body = shown(alerts.collect());
        let texts = texts(&body);
        assert_eq!(texts.len(), MAX_SHOWN + 2);
        assert_eq!(texts.last(), Some(&"and 80 more"));
        let longest = texts.iter().map(|text| text.chars().count()).max().unwrap();
        assert!(longest <= 3_000, "{longest}");
        assert!(body["text"].as_str().unwrap().chars().count() <= 3_000);
    }

    #[test]
    fn a_test_says_so() {
        let message = new_message("<r>", "g", Content::of_test(), 0);
        let body = body(&message, &Content::of_test());
        assert_eq!(body["text"], "Test message of gradwatch to &lt;r&gt;");
    }
}
