//! What conditions say of a column of texts. They are asked again, by DataFusion, of every row that comes: so what is
//! found here may be too much, and must not be too little.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{Between, BinaryExpr, InList, Like, ScalarFunction};
use datafusion::logical_expr::{Expr, Operator};

use crate::texts::Texts;

/// What all of these conditions together leave of a column.
pub fn texts_of_all(conditions: &[Expr], column: &str) -> Texts {
    let known = conditions
        .iter()
        .filter_map(|condition| texts_of(condition, column));
    known.fold(Texts::default(), Texts::and)
}

/// What a condition leaves of a column; `None` where it says nothing of it that is of use.
pub fn texts_of(condition: &Expr, column: &str) -> Option<Texts> {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::And => match (texts_of(left, column), texts_of(right, column)) {
                (Some(one), Some(other)) => Some(one.and(other)),
                (one, other) => one.or(other),
            },
            Operator::Or => texts_of(left, column)?.or(texts_of(right, column)?),
            op => {
                if is_column(left, column) {
                    compared(*op, text(right)?)
                } else if is_column(right, column) {
                    compared(op.swap()?, text(left)?)
                } else {
                    None
                }
            }
        },
        Expr::InList(InList {
            expr,
            list,
            negated: false,
        }) if is_column(expr, column) => {
            let named: Option<Vec<_>> = list.iter().map(text).collect();
            Some(Texts::named(named?.into_iter().map(str::to_owned)))
        }
        Expr::Between(Between {
            expr,
            negated: false,
            low,
            high,
        }) if is_column(expr, column) => {
            let low = Texts::from(text(low)?.to_owned(), true);
            Some(low.and(Texts::up_to(text(high)?.to_owned(), true)))
        }
        Expr::Like(Like {
            negated: false,
            expr,
            pattern,
            escape_char,
            case_insensitive: false,
        }) if is_column(expr, column) => Some(like(text(pattern)?, escape_char.unwrap_or('\\'))),
        Expr::ScalarFunction(ScalarFunction { func, args })
            if func.name() == "starts_with" && args.len() == 2 && is_column(&args[0], column) =>
        {
            Some(Texts::beginning(text(&args[1])?))
        }
        _ => None,
    }
}

fn is_column(expr: &Expr, name: &str) -> bool {
    match expr {
        Expr::Column(column) => column.name == name,
        // From one kind of text to another.
        Expr::Cast(cast) if cast.field.data_type().is_string() => is_column(&cast.expr, name),
        _ => false,
    }
}

/// The text that an expression is.
pub fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(
            ScalarValue::Utf8(Some(text))
            | ScalarValue::Utf8View(Some(text))
            | ScalarValue::LargeUtf8(Some(text)),
            _,
        ) => Some(text),
        Expr::Cast(cast) if cast.field.data_type().is_string() => text(&cast.expr),
        _ => None,
    }
}

fn compared(op: Operator, text: &str) -> Option<Texts> {
    let text = text.to_owned();
    match op {
        Operator::Eq => Some(Texts::named([text])),
        Operator::Lt => Some(Texts::up_to(text, false)),
        Operator::LtEq => Some(Texts::up_to(text, true)),
        Operator::Gt => Some(Texts::from(text, false)),
        Operator::GtEq => Some(Texts::from(text, true)),
        Operator::LikeMatch => Some(like(&text, '\\')),
        _ => None,
    }
}

/// What texts begin with that are like a pattern; all of the pattern, where it has no wildcard.
fn like(pattern: &str, escape: char) -> Texts {
    let mut prefix = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' | '_' => return Texts::beginning(prefix),
            c if c == escape => match chars.next() {
                Some(c) => prefix.push(c),
                // What a single one at the end means, DataFusion will say.
                None => return Texts::beginning(prefix),
            },
            c => prefix.push(c),
        }
    }
    Texts::named([prefix])
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{col, lit};

    use super::*;

    fn of(condition: Expr) -> String {
        texts_of(&condition, "key").map_or("nothing".to_owned(), |texts| texts.to_string())
    }

    #[test]
    fn conditions_become_names_ranges_and_prefixes() {
        let key = || col("key");
        let cases = [
            (key().eq(lit("a")), r#"in ["a"]"#),
            (lit("a").eq(key()), r#"in ["a"]"#),
            (lit("a").lt(key()), r#"> "a""#),
            (key().lt_eq(lit("b")), r#"<= "b""#),
            (
                key().in_list(vec![lit("b"), lit("a")], false),
                r#"in ["a", "b"]"#,
            ),
            (
                key().eq(lit("a")).or(key().eq(lit("b"))),
                r#"in ["a", "b"]"#,
            ),
            (key().like(lit("p%q")), r#"prefix "p""#),
            (key().like(lit("p\\_q_")), r#"prefix "p_q""#),
            (key().like(lit("pq")), r#"in ["pq"]"#),
            (key().between(lit("a"), lit("b")), r#">= "a" and <= "b""#),
            (
                key().like(lit("p%")).and(key().gt(lit("pa"))),
                r#"prefix "p" and > "pa""#,
            ),
            (key().eq(lit("a")).and(key().eq(lit("b"))), "in []"),
            (
                key().eq(lit("a")).and(col("bytes").gt(lit(1))),
                r#"in ["a"]"#,
            ),
        ];
        for (condition, expected) in cases {
            let shown = condition.to_string();
            assert_eq!(of(condition), expected, "{shown}");
        }
    }

    #[test]
    fn what_may_let_through_more_says_nothing() {
        let key = || col("key");
        let cases = [
            key().not_eq(lit("a")),
            key().in_list(vec![lit("a")], true),
            key().ilike(lit("p%")),
            key().not_like(lit("p%")),
            key().eq(lit("a")).or(col("bytes").gt(lit(1))),
            key().eq(lit("a")).or(key().gt(lit("b"))),
            key().eq(col("namespace")),
            col("other").eq(lit("a")),
            Expr::Not(Box::new(key().eq(lit("a")))),
        ];
        for condition in cases {
            let shown = condition.to_string();
            assert_eq!(of(condition), "nothing", "{shown}");
        }
    }
}
