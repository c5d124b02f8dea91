"""Recipes by name, and files that are none."""

from pathlib import Path

import pytest

from restore import recipes
from restore.errors import UserError
from restore.memory_table import Steps


def test_a_recipe_is_named_without_its_path_unless_a_file_has_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("edsr_x2", "configs/edsr_x2.yaml", "edsr_x2.yaml"):
        assert recipes.find(name) == recipes.CONFIGS / "edsr_x2.yaml"
        assert Steps([name], ["none"]).recipe(name).network.arguments["features"] == 256
    (tmp_path / "edsr_x2.yaml").touch()
    assert recipes.find("edsr_x2.yaml") == Path("edsr_x2.yaml")
    assert recipes.find("mine.yaml") == Path("mine.yaml")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"model: [", "not a recipe: while parsing a flow node .*line 1"),
        (b"model: \xff", "not a recipe: .*utf-8"),
        (b"a: &a [*a]", "nested too deeply"),
    ],
)
def test_a_file_that_cannot_be_read_as_yaml_is_named_in_one_line(
    tmp_path: Path, content: bytes, complaint: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    for read in (recipes.read, lambda path: Steps([str(path)], ["none"]).recipe(str(path))):
        with pytest.raises(UserError, match=rf"^{path}: {complaint}") as found:
            read(path)
        assert "\n" not in str(found.value)
