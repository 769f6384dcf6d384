//! `larder invalidate --tag` on a group whose query has a column with tags.

use crate::rig::{Up, code, err, out, sample};

#[test]
fn a_tag_drops_the_values_that_have_it_at_every_member() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("shop.yaml");
    let query = "query: SELECT score FROM students WHERE name = $1";
    let tagging = "query: SELECT score, CASE WHEN score > 600 THEN 'school:1 top' ELSE 'school:1' \
                   END AS tags FROM students WHERE name = $1\n      tagsColumn: tags";
    assert!(sample().contains(query));
    std::fs::write(&path, sample().replace(query, tagging)).expect("written");
    let up = Up::start(&["-f", path.to_str().expect("text"), "--members", "2"]);
    let source = |name| up.result(&["explain", "students", name])["explanation"]["source"].clone();
    let both = || (source("Tom") == "LOADED", source("Jack") == "LOADED");
    assert_eq!((both(), both()), ((true, true), (false, false)));

    let top = up.ask(&["invalidate", "students", "--tag", "top"]);
    assert_eq!(out(&top), "1 tag of students dropped; 2 of 2 members confirmed\n", "{}", err(&top));
    assert_eq!(both(), (true, false));
    let args = ["invalidate", "students", "Sam", "--tag", "school:1", "--tag", "school:2"];
    let result = up.result(&args);
    assert_eq!((&result["keys"], &result["tags"]), (&1.into(), &2.into()));
    assert_eq!(result["wholeGroup"], false);
    assert_eq!(both(), (true, true));

    let empty = up.ask(&["invalidate", "students", "--tag", ""]);
    assert_eq!(code(&empty), 1);
    assert!(err(&empty).contains("a tag is empty"), "{}", err(&empty));
    let many = up.ask(&[&["invalidate", "students"][..], &["--tag=t"; 65]].concat());
    let text = "there are 65 tags, more than the limit of 64";
    assert!(code(&many) == 1 && err(&many).contains(text), "{}", err(&many));
    assert_eq!(both(), (false, false), "refused invalidations drop nothing");
}
