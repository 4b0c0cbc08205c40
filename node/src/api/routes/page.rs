//! Pages of lists, which are limited in items and in bytes.

use super::{ApiResult, malformed};
use crate::{api::model::Page, fault::Fault};
use sealpost_proto::limits;
use serde::Serialize;
use std::io;

/// Returns the page size: the requested one within the limits.
pub(super) fn page_items(limit: Option<u32>) -> i64 {
    let limit = limit.unwrap_or(limits::PAGE_ITEMS_DEFAULT);
    i64::from(limit.clamp(1, limits::PAGE_ITEMS_MAX))
}

/// Parses the cursor of a list.
pub(super) fn parse_cursor(after: Option<&str>) -> ApiResult<Option<i64>> {
    after
        .map(str::parse)
        .transpose()
        .map_err(|_| malformed("the cursor is invalid"))
}

/// Builds a page from the next items of the list, with the cursor of the next page if there is one.
/// The page ends after `limit` items, and before an item that would make it longer than
/// [`limits::PAGE_BYTES_MAX`]. The first item is always on it. No item is created that is neither
/// on the page nor the first of the next one.
pub(super) fn page<T: Serialize>(
    items: impl IntoIterator<Item = Result<T, Fault>>,
    limit: i64,
    cursor: impl FnOnce(&T) -> String,
) -> Result<Page<T>, Fault> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let (mut on_page, mut bytes) = (Vec::new(), 0_usize);
    for item in items {
        let item = item?;
        bytes = bytes.saturating_add(json_bytes(&item)?);
        if on_page.len() == limit || (bytes > limits::PAGE_BYTES_MAX && !on_page.is_empty()) {
            let next = on_page.last().map(cursor);
            return Ok(Page {
                items: on_page,
                next,
            });
        }
        on_page.push(item);
    }
    Ok(Page {
        items: on_page,
        next: None,
    })
}

/// Builds a page like [`page`] from items with their cursors.
pub(super) fn page_with_cursors<T: Serialize>(
    items: impl IntoIterator<Item = Result<(String, T), Fault>>,
    limit: i64,
) -> Result<Page<T>, Fault> {
    let page = page(items, limit, |(cursor, _)| cursor.clone())?;
    Ok(Page {
        items: page.items.into_iter().map(|(_, item)| item).collect(),
        next: page.next,
    })
}

/// Returns the length of an item as JSON.
fn json_bytes(item: &impl Serialize) -> Result<usize, Fault> {
    let mut counter = ByteCounter(0);
    serde_json::to_writer(&mut counter, item).map_err(|error| Fault::failed(error.to_string()))?;
    Ok(counter.0)
}

/// Writer that counts bytes.
struct ByteCounter(usize);

impl io::Write for ByteCounter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_last_page_has_no_next() {
        for (items, next) in [(0, None), (2, None), (3, None), (4, Some("3"))] {
            let page = page((1..=items).map(Ok), 3, i32::to_string).unwrap();
            assert_eq!(
                (page.items.len(), page.next.as_deref()),
                (items.min(3) as usize, next)
            );
        }
    }

    #[test]
    fn long_pages_end_early() {
        let item = "x".repeat(limits::PAGE_BYTES_MAX / 4);
        let mut created = 0;
        let items = std::iter::repeat_with(|| {
            created += 1;
            Ok(item.clone())
        });
        let page = page(items, 500, |_| "cursor".to_owned()).unwrap();
        assert_eq!(page.next.as_deref(), Some("cursor"));
        assert_eq!((page.items.len(), created), (3, 4));
    }

    #[test]
    fn page_has_at_least_one_item() {
        let long = "\u{1}".repeat(limits::PAGE_BYTES_MAX);
        let items = [Ok(long.clone()), Ok(long)];
        let page = page(items, 500, |_| "cursor".to_owned()).unwrap();
        assert_eq!((page.items.len(), page.next.is_some()), (1, true));
    }
}
