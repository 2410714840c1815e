"""Agreement: hand arithmetic, identities, other people's libraries, and published figures on real data."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path

import krippendorff
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats import inter_rater

from prefcourse import agreement
from prefcourse.agreement import (
    annotator_accuracy,
    bootstrap,
    ceiling_from_agreement,
    ceiling_from_annotators,
    cohen_kappa,
    count_labels,
    count_pairs,
    dawid_skene,
    fleiss_kappa,
    group_by_item,
    krippendorff_alpha,
    leave_one_out,
    pairwise_cohen,
    percent_agreement,
    symmetrised_agreement,
    unanimity,
    without_repeats,
    without_ties,
)
from prefcourse.annotators import LABELS, Annotator, Vote, label_pairs, population, random_features

F, S, T = LABELS
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SCALE = agreement.ORDER
ANY_COUNT = [percent_agreement, leave_one_out, krippendorff_alpha, symmetrised_agreement]
OF_ITEMS = [*ANY_COUNT, lambda items: unanimity(items).unanimous, lambda items: unanimity(items).mixed]


def random_items(seed: int, sizes=(1, 6), labels=LABELS, count=40) -> list[list[str]]:
    """Items with a true label each, which every vote hits with probability .6."""
    rng = np.random.default_rng(seed)
    return [
        [str(rng.choice(labels) if rng.random() < 0.4 else true) for _ in range(rng.integers(*sizes))]
        for true in rng.choice(labels, size=count)
    ]


def turned(items):
    return [[{F: S, S: F}.get(label, label) for label in item] for item in items]


# --- by hand ------------------------------------------------------------


def test_percent_agreement_by_hand():
    # pairs: ffs has 1 of 3, ft 0 of 1, sss 3 of 3; the single label has none
    items = [[F, F, S], [F, T], [S, S, S], [T]]
    assert count_pairs(items) == (4, 7)
    assert percent_agreement(items) == pytest.approx(4 / 7)
    assert percent_agreement(items, average="items") == pytest.approx((1 / 3 + 0 + 1) / 3)


def test_tie_rules_by_hand():
    # fft: pairs ff, ft, ft; tt: one pair. three-way 2 of 4; without ties 1 of 1; half 1 + .5 + .5 + 1 of 4
    items = [[F, F, T], [T, T]]
    assert count_pairs(items, ties="three-way") == (2, 4)
    assert count_pairs(items, ties="drop") == (1, 1)
    assert count_pairs(items, ties="half") == (3, 4)


def test_unanimity_by_hand():
    items = [[F, F, F], [S, S], [F, T], [F, S, T], [F]]
    assert unanimity(items) == (2 / 4, 2 / 4)
    assert unanimity(without_ties(items)) == pytest.approx((2 / 3, 1 / 3))  # ft is left with one label and goes


def test_leave_one_out_by_hand():
    # fffs: each f faces ffs (1), the s faces fff (0): 3 of 4. fs: nobody's other is equal: 0 of 2.
    # ffss: each faces a majority of the other label: 0 of 4. ffs: each f faces f, s (1/2), s faces ff: 1 of 3
    assert leave_one_out([[F, F, F, S]]) == pytest.approx(3 / 4)
    assert leave_one_out([[F, S], [F, F, S, S]]) == 0
    assert leave_one_out([[F, F, S], [F]]) == pytest.approx(1 / 3)


def test_annotator_accuracy_by_hand():
    votes = [
        Vote(1, "a", F),
        Vote(1, "b", F),
        Vote(1, "c", S),
        Vote(2, "a", T),
        Vote(2, "b", T),
        Vote(3, "d", F),
    ]
    # item 1: a faces b, c level: 1/2; b likewise; c faces two f: 0. item 2: both right
    found = annotator_accuracy(votes)
    assert found["a"] == found["b"] == (0.75, 2) and found["c"] == (0, 1)
    assert np.isnan(found["d"].accuracy) and found["d"].labels == 0
    assert annotator_accuracy(votes, ties="drop")["a"] == (0.5, 1)
    twice = [Vote(1, "a", F), Vote(1, "a", F), Vote(1, "b", S)]
    assert annotator_accuracy(twice)["a"] == (0, 2)  # nobody confirms himself


def test_the_95_5_raters_agree_and_have_no_kappa():
    # independent, each says "first" 95 times in 100: agreement .95^2 + .05^2 = .905, all of it chance
    a = [F] * 380 + [S] * 20
    b = ([F] * 19 + [S]) * 20
    assert percent_agreement(list(zip(a, b, strict=True))) == pytest.approx(0.905)
    assert cohen_kappa(a, b) == pytest.approx(0, abs=1e-12)


def test_cohen_by_hand():
    # 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: observed .7, chance .5 x .6 + .5 x .4 = .5
    a, b = "y" * 25 + "n" * 25, "y" * 20 + "n" * 5 + "y" * 10 + "n" * 15
    assert cohen_kappa(a, b) == pytest.approx(0.4)


def test_fleiss_by_hand():
    # ff, fs: agreement 1/2; shares 3/4, 1/4: chance 10/16; (1/2 - 5/8) / (3/8) = -1/3
    assert fleiss_kappa([[F, F], [F, S]]) == pytest.approx(-1 / 3)


def test_votes_become_items_by_a_stated_rule_for_repeats():
    votes = [
        Vote("x", "ann", F),
        Vote("y", "bob", T),
        Vote("x", "ann", S),
        ("x", "bob", F),
        Vote("y", "ann", None),
    ]
    assert group_by_item(votes) == [[F, S, F], [T, None]]
    assert group_by_item(votes, repeats="first") == [[F, F], [T]]
    assert without_repeats(votes) == [votes[0], votes[1], votes[3]]


# --- what is not defined ------------------------------------------------------------


@pytest.mark.parametrize("statistic", [*OF_ITEMS, fleiss_kappa])
@pytest.mark.parametrize("items", [[], [[F], [S], [T]], [[F, None], [None, float("nan"), S]]])
def test_one_label_per_item_says_nothing(statistic, items):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(statistic(items))


@pytest.mark.parametrize("coefficient", [fleiss_kappa, krippendorff_alpha])
def test_kappa_without_variety_is_undefined(coefficient):
    assert np.isnan(coefficient([[F, F], [F, F]])) and np.isnan(cohen_kappa([F, F], [F, F]))


def test_single_labels_and_all_ties_are_left_out():
    items = random_items(0)
    for statistic in OF_ITEMS:
        assert statistic([*items, [F], []]) == pytest.approx(statistic(items))
    assert np.isnan(percent_agreement([[T, T], [T, F]], ties="drop"))
    assert np.isnan(leave_one_out([[T, T]], ties="drop"))


# --- identities ------------------------------------------------------------


@pytest.mark.parametrize("statistic", OF_ITEMS)
def test_order_of_labels_names_and_orientation_do_not_matter(statistic):
    items = random_items(1)
    mixed = [item[::-1] for item in items[::-1]]
    assert statistic(mixed) == pytest.approx(statistic(items))
    assert statistic(turned(items)) == pytest.approx(statistic(items))
    assert statistic(count_labels(items)) == pytest.approx(statistic(items))


def test_turning_single_items_changes_kappa_and_alpha_but_not_agreement():
    items = random_items(2, sizes=(3, 4), labels=(F, F, F, S))
    half = turned(items[::2]) + items[1::2]
    for same in (percent_agreement, leave_one_out, symmetrised_agreement):
        assert same(half) == pytest.approx(same(items))
    for moved in (fleiss_kappa, krippendorff_alpha):
        assert abs(moved(half) - moved(items)) > 0.05


@pytest.mark.parametrize("statistic", [percent_agreement, leave_one_out, lambda items: unanimity(items).mixed])
def test_duplicated_items_leave_shares_unchanged(statistic):
    assert statistic(random_items(3) * 2) == pytest.approx(statistic(random_items(3)))


def test_renaming_people_leaves_agreement_unchanged():
    votes = label_pairs(population(), random_features(50, generator=np.random.default_rng(0)), per_item=3,
                        generator=np.random.default_rng(1))  # fmt: skip
    renamed = [vote._replace(annotator=vote.annotator + "!") for vote in votes]
    assert percent_agreement(group_by_item(renamed)) == percent_agreement(group_by_item(votes))


@pytest.mark.parametrize("seed", range(3))
def test_three_binary_labels_tie_unanimity_and_leave_one_out_to_agreement(seed):
    items = random_items(seed, sizes=(3, 4), labels=(F, S))
    share = percent_agreement(items)
    assert unanimity(items).unanimous == pytest.approx((3 * share - 1) / 2)
    assert leave_one_out(items) == pytest.approx(share)


@pytest.mark.parametrize("m", [2, 3, 5])
def test_alpha_is_kappa_with_a_small_sample_correction(m):
    items = random_items(4, sizes=(m, m + 1))
    kappa = fleiss_kappa(items)
    assert krippendorff_alpha(items) == pytest.approx(kappa + (1 - kappa) / (len(items) * m))


def test_symmetrised_kappa_of_two_labels_is_twice_agreement_minus_one():
    items = random_items(5, sizes=(4, 5), labels=(F, F, S))
    expected = 2 * percent_agreement(items) - 1
    assert symmetrised_agreement(items, fleiss_kappa) == pytest.approx(expected)
    assert symmetrised_agreement(items) == pytest.approx(expected, abs=1 / len(items))


def test_two_labels_have_one_alpha_and_equal_counts_have_one_average():
    items = random_items(6, labels=(F, S))
    assert krippendorff_alpha(items, "ordinal") == pytest.approx(krippendorff_alpha(items))
    items = random_items(6, sizes=(4, 5))
    assert percent_agreement(items, average="items") == pytest.approx(percent_agreement(items))


# --- other people's libraries ------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("level", ["nominal", "ordinal"])
def test_alpha_equals_the_krippendorff_package_with_missing_labels(seed, level):
    items = random_items(seed, sizes=(0, 6))
    table = np.full((5, len(items)), np.nan)  # raters x items
    for column, item in enumerate(items):
        table[: len(item), column] = [SCALE.index(label) for label in item]
    expected = krippendorff.alpha(reliability_data=table, level_of_measurement=level)
    assert krippendorff_alpha(items, level) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_fleiss_equals_statsmodels(seed):
    items = random_items(seed, sizes=(4, 5))
    table, _ = inter_rater.aggregate_raters(np.array(items))
    assert fleiss_kappa(items) == pytest.approx(inter_rater.fleiss_kappa(table))


@pytest.mark.parametrize("seed", range(5))
def test_cohen_equals_scikit_learn_and_statsmodels(seed):
    a, b = zip(*random_items(seed, sizes=(2, 3)), strict=True)
    assert cohen_kappa(a, b) == pytest.approx(cohen_kappa_score(a, b))
    square, _ = inter_rater.aggregate_raters(np.array([a, b]).T)
    confusion = np.array([[sum((x, y) == (k, j) for x, y in zip(a, b, strict=True)) for j in LABELS] for k in LABELS])
    assert cohen_kappa(a, b) == pytest.approx(inter_rater.cohens_kappa(confusion).kappa)


def test_pairwise_cohen_takes_the_items_that_two_people_share():
    votes = [Vote(i, "a", x) for i, x in enumerate([F, S, F, T])] + [Vote(i, "b", x) for i, x in enumerate([F, S, S])]
    votes += [Vote(0, "a", S), Vote(9, "c", F)]  # a repeat, and someone who shares nothing
    assert pairwise_cohen(votes) == {("a", "b"): (cohen_kappa([F, S, F], [F, S, S]), 3)}


# --- the course's population ------------------------------------------------------------


def simulate(seed: int, people=None, pairs=600, per_item=5):
    people = people or population()
    features = random_features(pairs, generator=np.random.default_rng(seed))
    return (
        people,
        features,
        label_pairs(people, features, per_item=per_item, generator=np.random.default_rng(seed + 1000)),
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_default_population_agrees_as_published_ones_do(seed):
    assert percent_agreement(group_by_item(simulate(seed)[2])) == pytest.approx(0.73, abs=0.03)


@pytest.mark.parametrize("seed", range(6))
def test_dawid_skene_recovers_who_is_good(seed):
    people, _, votes = simulate(seed)
    many = random_features(20_000, generator=np.random.default_rng(99))
    true = np.array([ceiling_from_annotators([person], many).gold for person in people])
    accuracy = dawid_skene(votes).accuracy()
    found = np.array([accuracy[person.name] for person in people])
    assert np.corrcoef(true, found)[0, 1] > 0.88
    assert np.abs(true - found).mean() < 0.05
    assert sorted(accuracy, key=accuracy.get).index("spammer") <= 1


@pytest.mark.parametrize("seed", range(3))
def test_dawid_skene_objective_never_falls_even_from_a_bad_start(seed):
    votes = simulate(seed, population(tie=1.0), pairs=100)[2]
    items = len({vote.item for vote in votes})
    random_start = np.random.default_rng(seed).dirichlet(np.ones(3), size=items)
    for start in (None, random_start):
        objective = dawid_skene(votes, start=start).objective
        assert len(objective) > 3 and np.diff(objective).min() > -1e-9


def test_dawid_skene_objective_is_the_smoothed_log_likelihood():
    votes = simulate(0, pairs=30)[2]
    fit = dawid_skene(votes, steps=400, tolerance=1e-12)
    person = {name: number for number, name in enumerate(fit.annotators)}
    total = np.log(fit.confusion).sum() + np.log(fit.prior).sum()
    for item in fit.items:
        joint = fit.prior.copy()
        for vote in votes:
            if vote.item == item:
                joint *= fit.confusion[person[vote.annotator], :, fit.labels.index(vote.label)]
        total += np.log(joint.sum())
        assert fit.posterior[fit.items.index(item)] == pytest.approx(joint / joint.sum(), abs=1e-4)
    assert fit.objective[-1] == pytest.approx(total, abs=1e-6)


def test_dawid_skene_names_its_classes_after_the_votes():
    votes = simulate(0)[2]
    fit = dawid_skene(votes)
    switched = dawid_skene(votes, start=fit.posterior[:, ::-1])
    assert switched.accuracy() == pytest.approx(fit.accuracy(), abs=1e-4)
    assert switched.consensus() == fit.consensus()


def test_dawid_skene_sees_through_an_inverted_annotator():
    people = [Annotator(f"good-{n}", 5.0) for n in range(4)] + [Annotator("inverted", -5.0)]
    fit = dawid_skene(simulate(0, people, pairs=300)[2])
    assert fit.accuracy()["inverted"] < 0.3 < 0.7 < fit.accuracy()["good-0"]


def test_consensus_is_right_more_often_than_one_label():
    people, features, votes = simulate(0)
    truth = {item: F if gap > 0 else S for item, gap in enumerate(features.gold)}
    consensus = dawid_skene(votes).consensus()
    together = np.mean([consensus[item] == truth[item] for item in truth])
    assert together > np.mean([vote.label == truth[vote.item] for vote in votes]) + 0.05


# --- the ceiling ------------------------------------------------------------


def test_ceiling_is_the_share_of_labels_that_the_gold_reward_predicts():
    people, features, _ = simulate(0, pairs=500)
    votes = label_pairs(people, features, per_item=20, generator=np.random.default_rng(5))
    hits = np.mean([(vote.label == F) == (features.gold[vote.item] > 0) for vote in votes])
    assert ceiling_from_annotators(people, features).gold == pytest.approx(hits, abs=4 * 0.4 / np.sqrt(len(votes)))


def test_ceiling_by_hand():
    # slope 1, gaps ln 3 and -ln 4: right with probability 3/4 and 4/5; on a level pair nobody is, so 1/2
    pairs = random_features(3, generator=np.random.default_rng(0))
    pairs = pairs._replace(gold=np.array([np.log(3), -np.log(4), 0.0]))
    plain = ceiling_from_annotators([Annotator("a", 1.0)], pairs)
    assert plain == pytest.approx(((0.75 + 0.8 + 0.5) / 3,) * 2)
    with_ties = ceiling_from_annotators([Annotator("a", 0.0, tie=1.0)], pairs)
    assert with_ties == pytest.approx((0.5, 0.5))  # ties count neither for nor against


def test_a_shared_bias_can_be_learned_but_is_not_gold():
    pairs = random_features(2000, generator=np.random.default_rng(0))
    fond_of_length = ceiling_from_annotators([Annotator("a", 2.0, length=4.0)], pairs)
    assert fond_of_length.best > fond_of_length.gold + 0.1
    own_way = [Annotator("a", 2.0, length=4.0), Annotator("b", 2.0, length=-4.0)]
    assert ceiling_from_annotators(own_way, pairs).best < fond_of_length.best - 0.1


@pytest.mark.parametrize("slope", [0.5, 1.355, 2.342, 3.808, 8.0])
def test_bradley_terry_ceiling_inverts_agreement(slope):
    right = 1 / (1 + np.exp(-slope * np.abs(np.random.default_rng(0).standard_normal(400_000))))
    estimate = ceiling_from_agreement(float(np.mean(right**2 + (1 - right) ** 2)))
    assert estimate.bradley_terry == pytest.approx(right.mean(), abs=2e-3)


def test_ceiling_from_agreement_by_hand_and_at_the_ends():
    assert ceiling_from_agreement(0.82).constant_noise == pytest.approx(0.9)  # .9^2 + .1^2 = .82
    assert ceiling_from_agreement(0.5) == pytest.approx((0.5, 0.5))
    assert ceiling_from_agreement(1.0) == pytest.approx((1, 1))


@pytest.mark.parametrize("seed", range(20))
def test_agreement_bounds_the_ceiling_and_constant_noise_is_the_upper_bound(seed):
    right = 0.5 + 0.5 * np.random.default_rng(seed).beta(*np.random.default_rng(seed).uniform(0.2, 3, 2), size=50)
    share = float(np.mean(right**2 + (1 - right) ** 2))
    estimate = ceiling_from_agreement(share)
    assert share <= right.mean() <= estimate.constant_noise
    assert share <= estimate.bradley_terry <= estimate.constant_noise


# --- bootstrap ------------------------------------------------------------


def test_bootstrap_covers_and_draws_items():
    items = random_items(7, sizes=(2, 6), count=120)
    interval = bootstrap(percent_agreement, items, draws=300)
    assert interval.low < interval.estimate == percent_agreement(items) < interval.high
    assert interval == bootstrap(percent_agreement, count_labels(items), draws=300)
    assert interval != bootstrap(percent_agreement, items, draws=300, seed=1)
    agree = np.array([percent_agreement([item]) for item in random_items(8, sizes=(2, 3), count=400)])
    normal = bootstrap(lambda drawn: float(np.mean(drawn)), agree, draws=2000)
    assert (normal.high - normal.low) / 2 == pytest.approx(1.96 * agree.std() / 20, rel=0.1)


@pytest.mark.parametrize("seed", range(40, 42))
def test_bootstrap_interval_holds_the_truth_about_as_often_as_it_says(seed):
    hits = 0
    for repeat in range(100):
        rng = np.random.default_rng((seed, repeat))
        data = count_labels(np.where(rng.random((150, 2)) < rng.choice([0.1, 0.9], size=(150, 1)), F, S).tolist())
        interval = bootstrap(percent_agreement, data, draws=200, seed=repeat)
        hits += interval.low <= 0.82 <= interval.high
    assert 87 <= hits <= 100


def test_bootstrap_of_nothing_is_nan():
    assert np.isnan(bootstrap(percent_agreement, [])).all() and np.isnan(bootstrap(percent_agreement, [[F], [S]])).all()


# --- wrong input ------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: percent_agreement([Vote(1, "a", F), Vote(1, "b", F)]), "From votes take group_by_item"),
        (lambda: percent_agreement({"x": [F, S]}), "from a dict its values"),
        (lambda: unanimity([F, S, F]), "item 0 is 'first'; expected a list .* one label cannot agree"),
        (lambda: krippendorff_alpha([1, 2, 3]), "item 0 is 1; expected a list"),
        (
            lambda: percent_agreement([[F, F]], ties="ignore"),
            "ties='ignore'; expected 'three-way' or 'drop' or 'half'",
        ),
        (lambda: leave_one_out([[F, F]], ties="half"), "ties='half'; expected 'three-way' or 'drop'"),
        (lambda: annotator_accuracy([], ties="half"), "ties='half'; expected 'three-way' or 'drop'"),
        (
            lambda: percent_agreement([[F, F]], average="macro"),
            "average='macro'; expected 'pairs' or 'items'",
        ),
        (
            lambda: krippendorff_alpha([[F, F]], "interval"),
            "level='interval'; expected 'nominal' or 'ordinal'",
        ),
        (
            lambda: krippendorff_alpha([[1, 5]], "ordinal"),
            r"found labels \[1, 5\], not in order=.*from end to end",
        ),
        (lambda: symmetrised_agreement([["beam", "nucleus"]]), r"\['beam', 'nucleus'\], not in order"),
        (lambda: fleiss_kappa([[F, F], [F, S, S]]), "found 2 to 3 labels per item; .*Use krippendorff_alpha"),
        (
            lambda: cohen_kappa([F, S], [F]),
            "found 2 and 1 labels, 0 of them None; expected one label of each",
        ),
        (lambda: cohen_kappa([F, None], [F, F]), "1 of them None"),
        (lambda: group_by_item([], repeats="last"), "repeats='last'; expected 'keep' or 'first'"),
        (lambda: dawid_skene([Vote(1, "a", F), Vote(2, "b", F)]), "one annotator on each of 2 items"),
        (lambda: dawid_skene([Vote(1, "a", F), Vote(1, "b", F)], smoothing=0), "smoothing=0; expected > 0"),
        (lambda: ceiling_from_agreement(0.4), "agreement=0.4; expected .5 to 1. Were ties counted"),
        (lambda: ceiling_from_agreement(float("nan")), "agreement=nan; expected .5 to 1"),
    ],
)
def test_messages_name_the_slip(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- real data ------------------------------------------------------------

here = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared real data are not on this machine")


def mt_bench(turn: int) -> list[Vote]:
    """Experts' votes of one turn, oriented so that the first of a pair is the alphabetically first model."""
    votes = []
    for line in (SHARED / "mt_bench_human" / "human.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["turn"] == turn and row["judge"].startswith("expert"):
            models = sorted([row["model_a"], row["model_b"]])
            label = T if row["winner"] == "tie" else LABELS[models.index(row[row["winner"]])]
            votes.append(Vote((row["question_id"], *models), row["judge"], label))
    return votes


@here
@pytest.mark.parametrize(("turn", "with_ties", "without"), [(1, (454, 721), (388, 479)), (2, (471, 707), (388, 474))])
def test_mt_bench_experts_agree_as_published(turn, with_ties, without):
    items = group_by_item(mt_bench(turn))
    assert count_pairs(items) == with_ties and count_pairs(items, ties="drop") == without


@here
def test_pandalm_kappas_are_the_published_ones():
    rows = json.loads((SHARED / "pandalm_testset" / "testset-v1.json").read_text())
    said = {"0": T, "1": F, "2": S}
    votes = [Vote(row["idx"], who, said[str(row[f"annotator{who}"])]) for row in rows for who in (1, 2, 3)]
    kappas = {who: round(found.kappa, 2) for who, found in pairwise_cohen(votes).items()}
    assert kappas == {(1, 2): 0.85, (1, 3): 0.88, (2, 3): 0.86}
    items = group_by_item(votes)
    assert fleiss_kappa(items) == pytest.approx(0.864175, abs=1e-6)
    assert krippendorff_alpha(items) == pytest.approx(0.864221, abs=1e-6)


@here
def test_rankgen_has_one_agreement_and_two_kappas():
    with (SHARED / "rankgen_human_eval" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    winner = group_by_item(Vote((r["file"], r["item"]), r["annotator"], LABELS[r["winner"] == "nucleus"]) for r in rows)
    screen = group_by_item(
        Vote((r["file"], r["item"]), r["annotator"], LABELS[r["chosen_position"] == "2"]) for r in rows
    )
    assert percent_agreement(winner) == pytest.approx(percent_agreement(screen)) == pytest.approx(0.6693, abs=1e-4)
    assert krippendorff_alpha(screen) - krippendorff_alpha(winner) > 0.1
    assert symmetrised_agreement(winner) == pytest.approx(symmetrised_agreement(screen))
