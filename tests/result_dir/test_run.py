"""What a result directory tells of its model."""

import pytest

from common.pairs import pair_head
from common.result_dir.paths import ResultDir
from common.result_dir.run import find_run
from common.system.errors import InputError


def test_missing_pairs_are_named_with_the_command_that_makes_them(tmp_path):
    directory = ResultDir(tmp_path)
    directory.models.mkdir()
    for a, b in [(0, 1), (0, 2)]:
        directory.best("resnet50", pair_head((a, b))).touch()
    with pytest.raises(InputError, match=r"found 2 \(missing 1-2\); run .*--pairs 1-2"):
        find_run(directory)
    directory.config.write_text('{"config": {"num_classes": 3, "class_names": ["1", "2", "3"]}}')
    with pytest.raises(InputError, match=r"missing 1-2\); run .*--pairs 2-3"):
        find_run(directory)
    directory.config.unlink()
    directory.best("resnet50", pair_head((1, 2))).touch()
    assert [path.name for path in find_run(directory).files] == [
        "best_resnet50_0_1.pth",
        "best_resnet50_0_2.pth",
        "best_resnet50_1_2.pth",
    ]
    directory.config.write_text('{"config": {"num_classes": 3, "tta": "mirror"}}')
    with pytest.raises(InputError, match=r"not a usable configuration \(tta mirror\)"):
        find_run(directory)
    directory.best("densenet121", pair_head((0, 1))).touch()
    named = r"densenet121 \(best_densenet121_0_1.pth\), resnet50 \(.*; keep one model's files"
    with pytest.raises(InputError, match=f"of one model in .*{named}"):
        find_run(directory)
