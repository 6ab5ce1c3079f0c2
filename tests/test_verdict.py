"""The three lines at the end of the quick start say what was measured."""

from dev.verdict import verdict


def content(accuracy=(0.6, 0.4, 0.8), kappa=(0.7, 0.5, 0.8)):
    def stored(value, low=None, high=None):
        return {"value": value, "low": low, "high": high}

    graders = {"one": {"kappa": stored(0.61)}, "two": {"kappa": stored(None)}}
    auc = stored(0.9, 0.8, 1.0)
    return {
        "metrics": {
            "accuracy": stored(*accuracy),
            "kappa": stored(*kappa),
            "referable_auc": auc,
        },
        "graders": graders,
        "members": ["one", "two"],
        "images": 20,
        "images_per_grade": [6, 2, 6, 6, 0],
        "class_names": ["none", "mild", "moderate", "severe", "proliferative"],
        "confusion_matrix": [
            [5, 1, 0, 0, 0],
            [1, 1, 0, 0, 0],
            [0, 0, 2, 4, 0],
            [0, 0, 2, 4, 0],
            5 * [0],
        ],
    }


GATES = [{"status": "PASS"}, {"status": "FAIL"}, {"status": "NOT MEASURED"}]


def test_the_verdict_holds_the_figures_with_intervals_and_numbers_of_images():
    reached, trusted, following = verdict(content(), GATES, 81)
    assert "kappa 0.70 [0.50, 0.80] (its members 0.61 and n/a)" in reached
    assert "accuracy 60 % [40, 80]" in reached and "on 20 photographs" in reached
    assert "81 photographs" in trusted and "1 of 3 thresholds" in trusted
    assert "of grade moderate it recognises 2 of 6" in trusted, (
        "one without images is not the worst"
    )
    assert "rather than 81" in following


def test_what_may_be_guessing_is_said_to_be():
    assert (
        ", better than always naming the commonest grade (30 %)" in verdict(content(), GATES, 81)[0]
    )
    poor = verdict(content(accuracy=(0.35, 0.2, 0.5), kappa=(None, None, None)), GATES, 81)[0]
    assert "not surely better than" in poor and "kappa n/a" in poor
