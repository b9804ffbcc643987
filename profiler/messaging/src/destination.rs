//! Where messages go to and come from, as far as spans tell it.

use std::borrow::Cow;

use opentelemetry::KeyValue;

use crate::conventions::attribute;

/// A topic, queue or subject.
///
/// A name is enough where there are few of them. Names made up for one user or device each need a template as well, or they
/// multiply the names of spans and the rows of profiles:
///
/// ```
/// use spanprof_messaging::Destination;
/// let orders = Destination::from("orders");
/// let sensor = Destination::from("sensors/7/temperature").template("sensors/{sensor}/temperature");
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Destination {
    pub(crate) name: Cow<'static, str>,
    pub(crate) template: Option<Cow<'static, str>>,
    is_temporary: bool,
    is_anonymous: bool,
}

impl Destination {
    /// The pattern of the name: what spans are named by and threads' records say, in place of the name.
    #[must_use]
    pub fn template(mut self, template: impl Into<Cow<'static, str>>) -> Self {
        self.template = Some(template.into());
        self
    }

    /// It goes away with its users, such as a reply queue: spans aren't named by it.
    #[must_use]
    pub fn temporary(mut self) -> Self {
        self.is_temporary = true;
        self
    }

    /// Its name was made up for it: spans aren't named by it.
    #[must_use]
    pub fn anonymous(mut self) -> Self {
        self.is_anonymous = true;
        self
    }

    /// Whether the name is one that comes again.
    pub(crate) fn is_lasting(&self) -> bool {
        !self.is_temporary && !self.is_anonymous
    }

    pub(crate) fn flags(&self) -> impl Iterator<Item = KeyValue> + use<> {
        let temporary = self.is_temporary.then(|| KeyValue::new(attribute::DESTINATION_TEMPORARY, true));
        let anonymous = self.is_anonymous.then(|| KeyValue::new(attribute::DESTINATION_ANONYMOUS, true));
        temporary.into_iter().chain(anonymous)
    }
}

/// A destination by its name. An empty one stands for operations on no destination in particular.
impl From<&str> for Destination {
    fn from(name: &str) -> Self {
        Self::from(name.to_owned())
    }
}

/// A destination by its name. An empty one stands for operations on no destination in particular.
impl From<String> for Destination {
    fn from(name: String) -> Self {
        Self { name: name.into(), template: None, is_temporary: false, is_anonymous: false }
    }
}
