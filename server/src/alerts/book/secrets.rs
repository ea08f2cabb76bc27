//! Secrets that are never shown, and so are written back as `***`.

use gradwatch_rules::ReceiverKind;

use super::BookError;

/// What stands for a secret.
const HIDDEN: &str = "***";

/// Puts the old secrets where the new definition says `***`: the first for the first, and so on.
pub(super) fn keep(kind: &mut ReceiverKind, old: Option<&ReceiverKind>) -> Result<(), BookError> {
    match kind {
        ReceiverKind::Webhook { secrets, .. } => {
            let mut known = match old {
                Some(ReceiverKind::Webhook { secrets, .. }) => secrets.iter(),
                _ => [].iter(),
            };
            for secret in secrets.iter_mut().filter(|secret| *secret == HIDDEN) {
                known.next().ok_or_else(|| nothing_kept("secrets"))?.clone_into(secret);
            }
        }
        ReceiverKind::Slack { url: Some(url), .. } if url == HIDDEN => match old {
            Some(ReceiverKind::Slack { url: Some(known), .. }) => known.clone_into(url),
            _ => return Err(nothing_kept("url")),
        },
        ReceiverKind::Slack { .. } | ReceiverKind::Alertmanager { .. } => {}
    }
    Ok(())
}

fn nothing_kept(field: &str) -> BookError {
    BookError::problem(field, format!("{HIDDEN:?} stands for a secret that is kept, and none is"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhook(secrets: &[&str]) -> ReceiverKind {
        let secrets = secrets.iter().map(ToString::to_string).collect();
        ReceiverKind::Webhook { url: "https://example.org".into(), secrets, secrets_env: None }
    }

    #[test]
    fn a_hidden_secret_stays_and_a_new_one_can_stand_before_it() {
        let mut new = webhook(&["whsec_new", "***"]);
        keep(&mut new, Some(&webhook(&["whsec_old", "whsec_older"]))).expect("one is kept");
        assert_eq!(new, webhook(&["whsec_new", "whsec_old"]));
    }

    #[test]
    fn nothing_stands_for_a_secret_that_is_not_there() {
        for old in [None, Some(webhook(&[]))] {
            let error = keep(&mut webhook(&["***"]), old.as_ref()).expect_err("there is none");
            assert!(matches!(error, BookError::Problems(problems) if problems[0].field == "secrets"));
        }
        let mut slack = ReceiverKind::Slack { url: Some("***".into()), url_env: None };
        assert!(keep(&mut slack, Some(&webhook(&["whsec_old"]))).is_err());
    }
}
