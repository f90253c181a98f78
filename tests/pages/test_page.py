import json
import re

from swav_jax.pages.page import Section, choice, facts, page


def test_names_of_files_cannot_leave_the_data():
    name = 'a</script><script>alert("x")</script><!-- \udcff $style'
    text = page(name, "", [Section("one", "A & B", "<p>")], {"name": name}).decode()
    assert text.count("<script") == 2 and "<!--" not in text
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', text)[1]
    assert json.loads(found) == {"name": name}
    assert "<title>a&lt;/script&gt;" in text and '<a href="#one">A &amp; B</a>' in text


def test_facts_and_choices():
    assert "<dt>a&lt;b</dt>" in facts([("a<b", "1", "")])
    assert choice("order", "Order", {"size": "Size"}) == ""  # nothing to choose
    two = choice("order", "Order", {"size": "Size", "purity": "Purity"})
    assert re.findall(r'data-value="(\w+)" aria-pressed="(\w+)"', two) == [
        ("size", "true"),
        ("purity", "false"),
    ]
