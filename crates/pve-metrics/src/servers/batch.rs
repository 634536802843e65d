//! Pieces of text in batches of a certain size.

/// Gathers pieces. A piece is never cut: one that is larger than a batch may be is a batch of its own.
pub(super) struct Batches {
    limit: usize,
    full: Vec<Vec<u8>>,
    open: Vec<u8>,
}

impl Batches {
    /// Batches that stay below a number of bytes.
    pub(super) fn below(limit: usize) -> Self {
        Self {
            limit,
            full: Vec::new(),
            open: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, piece: &str) {
        if !self.open.is_empty() && self.open.len() + piece.len() >= self.limit {
            self.full.push(std::mem::take(&mut self.open));
        }
        self.open.extend_from_slice(piece.as_bytes());
    }

    pub(super) fn finish(mut self) -> Vec<Vec<u8>> {
        if !self.open.is_empty() {
            self.full.push(self.open);
        }
        self.full
    }
}
