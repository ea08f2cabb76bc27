//! Notifications, group by group.

use gradwatch_store::{Notification, Store, StoreError};

/// Notifications read at once.
const PAGE: usize = 5_000;

/// Reads those that no message holds yet. Invariant: a group is never cut, unless it fills a page alone.
pub(super) struct Pages<'a> {
    store: &'a dyn Store,
    behind: Option<(String, String)>,
    is_over: bool,
}

impl<'a> Pages<'a> {
    pub(super) fn new(store: &'a dyn Store) -> Self {
        Self { store, behind: None, is_over: false }
    }

    /// The next ones; empty: there are no more.
    pub(super) async fn next(&mut self) -> Result<Vec<Notification>, StoreError> {
        if self.is_over {
            return Ok(Vec::new());
        }
        let behind = self.behind.as_ref().map(|(receiver, group_key)| (receiver.as_str(), group_key.as_str()));
        let mut page = self.store.notifications(behind, PAGE).await?;
        self.is_over = page.len() < PAGE;
        if !self.is_over {
            without_cut_group(&mut page);
        }
        self.behind = page.last().map(|last| (last.new.receiver.clone(), last.new.group_key.clone()));
        Ok(page)
    }
}

/// Leaves out the group at the end of a page, which may go on behind it; unless the page holds nothing else.
fn without_cut_group(page: &mut Vec<Notification>) {
    let key = |it: &Notification| (it.new.receiver.clone(), it.new.group_key.clone());
    let last = page.last().map(key);
    if let Some(before) = page.iter().rposition(|it| Some(key(it)) != last) {
        page.truncate(before + 1);
    }
}
