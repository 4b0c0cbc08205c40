//! Nesting of the elements of HTML that contain others.

use super::{Reader, tokens::Attributes};
use crate::content::document::Element;
use sealpost_proto::limits::CONTENT_DEPTH_MAX;

/// Element that contains blocks, rows or cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    Quote,
    List,
    Item,
    CodeBlock,
    Table,
    Row,
    Cell,
}

impl Reader<'_, '_> {
    pub(super) fn innermost(&self) -> Option<Container> {
        self.containers.last().copied()
    }

    pub(super) fn is_in(&self, container: Container) -> bool {
        self.containers.contains(&container)
    }

    /// Starts a container, or only a block where it is not possible: in a cell, and too deep.
    pub(super) fn start_container(&mut self, container: Container, element: Element<'_>) {
        self.end_block();
        self.enter_item_or_cell();
        if self.is_in(Container::Cell) || self.containers.len() >= CONTENT_DEPTH_MAX {
            return;
        }
        self.push(container, element);
    }

    fn push(&mut self, container: Container, element: Element<'_>) {
        self.document.start(element);
        self.containers.push(container);
        self.is_fresh = true;
        self.has_rows &= container != Container::Table;
    }

    /// Ends the innermost container of a kind, and everything in it. Inside a table, only parts of
    /// the table end.
    pub(super) fn end_container(&mut self, container: Container) {
        self.end_block();
        let start = self
            .containers
            .iter()
            .rposition(|&open| open == container || open == Container::Table);
        if let Some(start) = start.filter(|&start| self.containers[start] == container) {
            self.end_containers(start);
        }
    }

    /// Ends all containers beyond the given number.
    pub(super) fn end_containers(&mut self, count: usize) {
        self.end_block();
        for container in self.containers.drain(count..).rev() {
            if container == Container::List {
                self.numbers.pop();
            }
            self.document.end();
            self.is_fresh = false;
        }
    }

    /// Enters an item or cell if the innermost container can hold nothing else.
    pub(super) fn enter_item_or_cell(&mut self) {
        match self.innermost() {
            Some(Container::List) => self.push_item(None),
            Some(Container::Table | Container::Row) => self.start_cell(false),
            _ => {}
        }
    }

    pub(super) fn start_list(&mut self, first: Option<String>) {
        let element = Element::List {
            is_numbered: first.is_some(),
        };
        self.start_container(Container::List, element);
        if self.innermost() == Some(Container::List) && self.is_fresh {
            self.numbers
                .push(first.map(|first| first.trim().parse().unwrap_or(1)));
        }
    }

    pub(super) fn start_item(&mut self, attributes: Attributes<'_>) {
        self.end_block();
        if self.is_in(Container::Cell) {
            return;
        }
        let list = self
            .containers
            .iter()
            .rposition(|open| matches!(open, Container::List | Container::Quote));
        match list.filter(|&list| self.containers[list] == Container::List) {
            Some(list) => self.end_containers(list + 1),
            None => self.start_list(None),
        }
        if self.innermost() == Some(Container::List) {
            let value = attributes.find("value");
            self.push_item(value.and_then(|value| value.trim().parse().ok()));
        }
    }

    fn push_item(&mut self, value: Option<u64>) {
        let marker = match self.numbers.last_mut() {
            Some(Some(next)) => {
                let number = value.unwrap_or(*next);
                *next = number.saturating_add(1);
                format!("{number}.")
            }
            _ => "-".to_owned(),
        };
        let element = Element::Item {
            marker: &marker,
            is_empty: false,
        };
        self.push(Container::Item, element);
    }

    pub(super) fn end_row(&mut self) {
        self.end_block();
        if let Some(table) = self
            .containers
            .iter()
            .rposition(|&open| open == Container::Table)
        {
            self.end_containers(table + 1);
        }
    }

    pub(super) fn start_cell(&mut self, is_head: bool) {
        self.end_block();
        let parent = self
            .containers
            .iter()
            .rposition(|open| matches!(open, Container::Row | Container::Table));
        let Some(parent) = parent else {
            return;
        };
        self.end_containers(parent + 1);
        if self.innermost() == Some(Container::Table) {
            let is_first = !std::mem::replace(&mut self.has_rows, true);
            let is_head_row = is_head && is_first;
            let row = if is_head_row {
                Element::TableHead
            } else {
                Element::TableRow
            };
            self.push(Container::Row, row);
        }
        self.push(Container::Cell, Element::TableCell);
    }
}
