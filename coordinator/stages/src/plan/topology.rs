//! The order of steps: dependencies first.

/// An order in which every step comes behind those it depends on, as early as the given order
/// allows; `None` when there is a circle. `dependencies[i]` are indices.
pub(super) fn order(dependencies: &[Vec<usize>]) -> Option<Vec<usize>> {
    let mut placed = vec![false; dependencies.len()];
    let mut order = Vec::with_capacity(dependencies.len());
    while order.len() < dependencies.len() {
        // Plans are short: at most a few hundred steps.
        let next = (0..dependencies.len())
            .find(|at| !placed[*at] && dependencies[*at].iter().all(|needed| placed[*needed]))?;
        placed[next] = true;
        order.push(next);
    }
    Some(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_comes_first_and_circles_are_seen() {
        assert_eq!(order(&[vec![2], vec![], vec![1]]), Some(vec![1, 2, 0]));
        assert_eq!(order(&[vec![], vec![], vec![]]), Some(vec![0, 1, 2]));
        assert_eq!(order(&[vec![1], vec![0]]), None);
        assert_eq!(order(&[vec![0]]), None);
    }
}
