//! Walking the payments that changed, for reconciliation.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::client::Client;
use super::error::Error;
use super::payment::{Payment, PaymentStatus};

/// Payments a page: the largest size that is known to work.
pub(super) const PAGE_SIZE: u32 = 100;

/// A page of payments, oldest change first.
#[derive(Debug, Clone, Default)]
pub struct ChangesPage {
    /// The payments that could be read.
    pub payments: Vec<Payment>,
    /// The ids of those that could not, for the operator: one odd payment must not hide the others. Empty text: no id.
    pub unreadable: Vec<String>,
}

impl ChangesPage {
    pub(super) fn from_items(items: Vec<Value>) -> Self {
        let mut page = Self::default();
        for item in items {
            let id = item.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
            match serde_json::from_value(item) {
                Ok(payment) => page.payments.push(payment),
                Err(_) => page.unreadable.push(id),
            }
        }
        page
    }

    /// A page that is not full is the last one; the total that comes with it is not to be leaned on.
    pub fn is_last(&self) -> bool {
        self.payments.len() + self.unreadable.len() < PAGE_SIZE as usize
    }

    fn is_empty(&self) -> bool {
        self.payments.is_empty() && self.unreadable.is_empty()
    }
}

/// A walk over changed payments ([`Client::changes`]), a page at a time.
///
/// Payments go on changing during the walk: one that moves to the end pulls all later ones forward by a place, and
/// counting pages would skip one at each seam. So the walk continues from the time of the last payment that it saw, and
/// turns a page only where a whole page shares one instant.
#[derive(Debug)]
pub struct Changes<'a> {
    client: &'a Client,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    statuses: Vec<PaymentStatus>,
    within: Duration,
    page: u32,
    /// What was handed out already and may come again.
    seen: HashSet<(String, Option<DateTime<Utc>>)>,
    ended: bool,
}

impl<'a> Changes<'a> {
    pub(super) fn new(
        client: &'a Client,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
        statuses: Vec<PaymentStatus>,
        within: Duration,
    ) -> Self {
        Self {
            client,
            from,
            until,
            statuses,
            within,
            page: 0,
            seen: HashSet::new(),
            ended: false,
        }
    }

    /// The next payments; `None` at the end. A state that was handed out does not come again, a newer one does.
    /// After an error the same page is asked for again.
    pub async fn next(&mut self) -> Result<Option<ChangesPage>, Error> {
        while !self.ended {
            let mut page = self
                .client
                .list(self.from, self.until, &self.statuses, self.page, self.within)
                .await?;
            self.ended = page.is_last();
            // A millisecond of overlap: the stored times may be finer than the ones that are told.
            let resume = page
                .payments
                .iter()
                .map(|payment| payment.status_changed_at - TimeDelta::milliseconds(1))
                .max();
            page.payments
                .retain(|payment| self.seen.insert((payment.id.clone(), Some(payment.status_changed_at))));
            page.unreadable.retain(|id| self.seen.insert((id.clone(), None)));
            match resume {
                Some(resume) if resume > self.from => {
                    (self.from, self.page) = (resume, 0);
                    self.seen
                        .retain(|(_, changed_at)| changed_at.is_none_or(|changed_at| changed_at >= resume));
                }
                _ => self.page += 1,
            }
            if !page.is_empty() {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }
}
