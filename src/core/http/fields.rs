//! The header fields of a request.

/// The header fields of a request, looked up without regard to case.
pub(super) struct Fields<'a>(pub(super) &'a [httparse::Header<'a>]);

impl<'a> Fields<'a> {
    /// Each value of the fields of this name, in their order.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.0
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value)
    }

    /// Whether this is an element of the comma-separated list that the fields of this name make up together.
    pub(super) fn list_contains(&self, name: &str, element: &str) -> bool {
        self.values(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|each| each.trim_ascii().eq_ignore_ascii_case(element.as_bytes()))
    }

    /// RFC 9110 §5.3: repeated fields are one list.
    pub(super) fn joined(&self, name: &str) -> Option<String> {
        let values: Vec<_> = self.values(name).map(String::from_utf8_lossy).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }
}
