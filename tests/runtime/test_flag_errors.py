import sys

import pytest
from absl import flags
from ml_collections import config_flags

from swav_jax.runtime.flag_errors import CONFIG_FILE, one_line_errors

# Of ml_collections, which loads config files by it.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

BODY = """from swav_jax.config import defaults


def get_config():
    config = defaults()
    {line}
    return config
"""


def said(*argv):
    """What a process says that ends while it parses its flags."""
    sys.modules.pop(CONFIG_FILE, None)  # of the test before
    values, argv = flags.FlagValues(), ["main.py", *argv]
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    with pytest.raises(SystemExit) as ended, one_line_errors():
        values(argv)
        values.config.get("seed")  # a file that cannot be read is noticed by the first look at it
    assert "\n" not in ended.value.code
    return ended.value.code


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("config.optim.lr = 3", "there is no setting lr; there are base_lr, drop_epochs, "),
        ("config.optim.bas_lr = 3", "there is no setting bas_lr. Did you mean base_lr?"),
        ("config.optm.base_lr = 3", "there is no setting optm. Did you mean optim?"),
        ("config.seed = config['sed']", "there is no setting sed. Did you mean seed?"),
        ("config.seed = 'a' + 3", 'TypeError: can only concatenate str (not "int") to str'),
        ("config.optim.base_lr = 'a'", "TypeError: Could not override field 'base_lr'"),
        ("config.seed = int('a')", "ValueError: invalid literal for int()"),
        ("config.seed = sed", "NameError: name 'sed' is not defined"),
        ("config.seed = (", "'(' was never closed"),
        ("config.seed = None.x", "AttributeError: 'NoneType' object has no attribute 'x'"),
        ("config.seed = {}['x']", "KeyError: 'x'"),
        ("config.seed = open('nowhere')", "FileNotFoundError: [Errno 2] No such file"),
        ("defaults('swaw')", "unknown method.name 'swaw'; known are swav, "),
        ("import swav_jax.confg", "ModuleNotFoundError: No module named 'swav_jax.confg'"),
    ],
)
def test_an_error_in_a_config_file_is_told_with_its_line(tmp_path, line, complaint):
    path = tmp_path / "mine.py"
    path.write_text(BODY.format(line=line))
    assert said(f"--config={path}").startswith(f"error: {path}, line 6: {complaint}")


@pytest.mark.parametrize(
    ("flag", "complaint"),
    [
        ("--config.optim.lr=3", "error: --config has no setting lr; there are base_lr, "),
        ("--config.optim.bas_lr=3", "error: --config has no setting bas_lr. Did you mean base_lr?"),
        ("--config.seed.x=3", "error: --config has no setting seed.x"),
        ("--config.seed=x", "error: flag --config.seed=x: invalid literal for int()"),
        ("--config.data.crops=((2, ", "error: flag --config.data.crops=((2, : "),
        ("--confg=x", "error: Unknown command line flag 'confg'. Did you mean: config"),
    ],
)
def test_a_wrong_flag_is_named(tmp_path, flag, complaint):
    path = tmp_path / "mine.py"
    path.write_text(BODY.format(line="pass"))
    assert said(f"--config={path}", flag).startswith(complaint)


def test_a_file_that_is_not_there_or_no_config_is_named(tmp_path):
    path = tmp_path / "mine.py"
    assert f"cannot be read: {path} [Errno 2] No such file" in said(f"--config={path}")
    path.write_text("x = 1")
    assert "has no attribute 'get_config'" in said(f"--config={path}")


def test_other_errors_are_ours_and_keep_their_traceback():
    with pytest.raises(ZeroDivisionError), one_line_errors():
        _ = 1 / 0
