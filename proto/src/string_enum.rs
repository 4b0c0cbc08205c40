//! Enums that are text outside the program: on the wire, in databases and in JSON. Each is declared
//! with [`string_enum!`](crate::string_enum!).

/// Error for text that is not a value of the enum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not one of the known values")]
pub struct ParseEnumError;

/// Declares an enum without data and the text of each variant.
///
/// The enum has `ALL`, `as_str` and `parse`, and implements `Display`, `Serialize` and
/// `Deserialize`; the calling crate depends on `serde`.
///
/// ```
/// use sealpost_proto::string_enum::ParseEnumError;
///
/// sealpost_proto::string_enum! {
///     /// State of a door.
///     pub enum DoorState {
///         /// Everybody can enter.
///         Open = "open",
///         /// Nobody can enter.
///         Closed = "closed",
///     }
/// }
///
/// assert_eq!(DoorState::ALL, [DoorState::Open, DoorState::Closed]);
/// assert_eq!(DoorState::Open.as_str(), "open");
/// assert_eq!(DoorState::parse("closed"), Ok(DoorState::Closed));
/// assert_eq!(DoorState::parse("ajar"), Err(ParseEnumError));
/// ```
///
/// A set that later versions extend names a fallback after `else`. `parse` and `Deserialize` return
/// it for unknown text, and `ALL` does not contain it. Properties are declared in parentheses after
/// the name, and each variant gives their values in the same order; each property becomes a method.
///
/// ```
/// sealpost_proto::string_enum! {
///     /// Error of a vending machine.
///     pub enum MachineError(
///         /// Returns the HTTP status of the error.
///         status: u16,
///         /// Returns a description for people.
///         title: &'static str,
///     ) {
///         /// A compartment is empty.
///         SoldOut = "sold_out" (409, "the item is sold out"),
///     } else {
///         /// An error that a later version added.
///         Unknown = "unknown" (500, "this version does not know the error"),
///     }
/// }
///
/// assert_eq!(MachineError::parse("sold_out"), MachineError::SoldOut);
/// assert_eq!(MachineError::SoldOut.status(), 409);
/// assert_eq!(MachineError::parse("jammed").title(), "this version does not know the error");
/// ```
#[macro_export]
macro_rules! string_enum {
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $name:ident {
            $($(#[$variant_attribute:meta])* $variant:ident = $text:literal,)+
        } $(else {
            $(#[$fallback_attribute:meta])* $fallback:ident = $fallback_text:literal,
        })?
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ::serde::Serialize, ::serde::Deserialize)]
        $visibility enum $name {
            $($(#[$variant_attribute])* #[serde(rename = $text)] $variant,)+
            $($(#[$fallback_attribute])* #[serde(other, rename = $fallback_text)] $fallback,)?
        }

        impl $name {
            /// Every variant in declaration order, without a fallback.
            $visibility const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Returns the text as it is written on the wire, in databases and in JSON.
            #[must_use]
            $visibility const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                    $(Self::$fallback => $fallback_text,)?
                }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        $crate::string_enum!(@parse $visibility $name { $($variant = $text,)+ } $($fallback)?);
    };

    (
        $(#[$attribute:meta])*
        $visibility:vis enum $name:ident(
            $($(#[$property_doc:meta])* $property:ident: $type:ty,)+
        ) {
            $(
                $(#[$variant_attribute:meta])*
                $variant:ident = $text:literal ($($value:expr),+ $(,)?),
            )+
        } $(else {
            $(#[$fallback_attribute:meta])*
            $fallback:ident = $fallback_text:literal ($($fallback_value:expr),+ $(,)?),
        })?
    ) => {
        $crate::string_enum! {
            $(#[$attribute])*
            $visibility enum $name {
                $($(#[$variant_attribute])* $variant = $text,)+
            } $(else {
                $(#[$fallback_attribute])* $fallback = $fallback_text,
            })?
        }

        const _: () = {
            struct Properties {
                $($property: $type,)+
            }

            const fn properties($($property: $type),+) -> Properties {
                Properties { $($property),+ }
            }

            impl $name {
                const fn properties(self) -> Properties {
                    match self {
                        $(Self::$variant => properties($($value),+),)+
                        $(Self::$fallback => properties($($fallback_value),+),)?
                    }
                }

                $(
                    $(#[$property_doc])*
                    #[must_use]
                    $visibility const fn $property(self) -> $type {
                        self.properties().$property
                    }
                )+
            }
        };
    };

    (@parse $visibility:vis $name:ident { $($variant:ident = $text:literal,)+ }) => {
        impl $name {
            /// Parses the text of a variant.
            ///
            /// # Errors
            /// Returns an error for text that is not a variant in this version.
            $visibility fn parse(text: &str) -> Result<Self, $crate::string_enum::ParseEnumError> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err($crate::string_enum::ParseEnumError),
                }
            }
        }
    };

    (
        @parse $visibility:vis $name:ident { $($variant:ident = $text:literal,)+ } $fallback:ident
    ) => {
        impl $name {
            /// Parses the text of a variant; unknown text becomes the fallback.
            #[must_use]
            $visibility fn parse(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)+
                    _ => Self::$fallback,
                }
            }
        }
    };
}
