//! Tests of the scanner.

use super::*;
