"""Makes `statistics.json`: intervals, tests and sample sizes of comparisons, by other ways than src/eval takes.

    pip install scipy statsmodels
    python tests/golden/statistics.py > tests/golden/statistics.json

Keys are those of `Golden` in src/eval/significance.rs. Wilson's interval and McNemar's p are SciPy's, Jeffreys' interval
is from SciPy's quantiles of the beta distribution, Holm's values are statsmodels'. Tango's interval is found from its
definition: the difference is held, the likelihood of the four cells is maximised numerically, and the score statistic of
that maximum is ±z at the ends. Sample sizes are the first of all numbers whose power is 0.8.
"""

import json
import math

from scipy.optimize import brentq, minimize_scalar
from scipy.stats import beta, binomtest, norm
from statsmodels.stats.multitest import multipletests

Z = norm.ppf(0.975)
POWER = 0.8


def share(successes: int, trials: int) -> dict:
    wilson = binomtest(successes, trials).proportion_ci(method="wilson")
    posterior = beta(successes + 0.5, trials - successes + 0.5)
    jeffreys = [posterior.ppf(0.025) if successes > 0 else 0.0, posterior.ppf(0.975) if successes < trials else 1.0]
    return {"successes": successes, "trials": trials, "wilson": list(wilson), "jeffreys": jeffreys}


def score(ours_only: int, theirs_only: int, n: int, difference: float) -> float:
    """The score statistic of the hypothesis that the shares differ by so much."""
    agreed = n - ours_only - theirs_only
    room = 1 - abs(difference)
    # The cells of ours only and theirs only have these shares at least; what both have beyond is to be found.
    least = [(ours_only, max(0.0, difference)), (theirs_only, max(0.0, -difference))]

    def slope(more: float) -> float:
        """Of the log likelihood, times the share that agrees: falls from the least to the most."""
        return sum(count / (share + more) for count, share in least if count) * (room - 2 * more) - 2 * agreed

    tiny = 1e-300
    if slope(tiny) <= 0:
        more = 0.0
    elif agreed == 0:
        more = room / 2
    else:
        more = brentq(slope, tiny, room / 2, xtol=1e-300, rtol=1e-15, maxiter=10_000)
        cells = lambda more: [(count, share + more) for count, share in least] + [(agreed, room - 2 * more)]
        unlikely = lambda more: -sum(count * math.log(share) for count, share in cells(more) if count)
        rough = minimize_scalar(unlikely, bounds=(0, room / 2), method="bounded", options={"xatol": 1e-12})
        assert unlikely(more) <= rough.fun + 1e-9, "the likelihood has a larger value elsewhere"
    variance = n * (least[0][1] + least[1][1] + 2 * more - difference**2)
    return (ours_only - theirs_only - n * difference) / math.sqrt(variance)


def tango(ours_only: int, theirs_only: int, n: int) -> list[float]:
    middle = (ours_only - theirs_only) / n

    def end(outside: float, z: float) -> float:
        if middle == outside:
            return outside
        off = 1e-9 * (outside - middle)  # the statistic is 0 in the middle and infinite at the end
        return brentq(lambda d: score(ours_only, theirs_only, n, d) - z, middle + off, outside - off, xtol=1e-15)

    return [end(-1.0, Z), end(1.0, -Z)]


def first(power) -> int:
    """The first number of episodes with enough power, which grows with the number."""
    high = 1
    while power(high) < POWER:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high


def outcomes_needed(discordant: float, difference: float):
    """Connor 1987: under the hypothesis the statistic varies by the discordant share, else by that less the square."""
    if difference == 0:
        return None
    spread = math.sqrt(discordant - difference**2)
    shortfall = lambda n: math.sqrt(n) * abs(difference) - Z * math.sqrt(discordant)
    return first(lambda n: norm.cdf(shortfall(n) / spread) if spread > 0 else float(shortfall(n) >= 0))


def pair(both: int, ours_only: int, theirs_only: int, neither: int) -> dict:
    n = both + ours_only + theirs_only + neither
    discordant = ours_only + theirs_only
    low, high = tango(ours_only, theirs_only, n)
    return {
        "both": both, "ours_only": ours_only, "theirs_only": theirs_only, "neither": neither,
        "p": binomtest(min(ours_only, theirs_only), discordant).pvalue if discordant else 1.0,
        "low": low, "high": high,
        "episodes": outcomes_needed(discordant / n, (ours_only - theirs_only) / n),
    }


def numbers(difference: float, deviation: float) -> dict:
    needed = first(lambda n: norm.cdf(math.sqrt(n) * abs(difference) / deviation - Z))
    return {"difference": difference, "deviation": deviation, "episodes": needed}


def main():
    shares = [(k, n) for n in (1, 2, 5, 10, 50) for k in sorted({0, 1, n // 2, n - 1, n})]
    shares += [(0, 100), (1, 100), (98, 100), (100, 100), (15, 300), (299, 300), (638, 1000)]
    shares += [(5000, 10_000), (3, 100_000)]
    pairs = [
        (0, 0, 0, 10), (10, 0, 0, 0), (40, 0, 0, 60), (0, 10, 0, 0), (0, 0, 10, 0), (0, 5, 5, 0), (0, 1, 0, 0),
        (1, 1, 7, 12),  # the airways of Bentur et al. in Fagerland, Lydersen, Laake 2014
        (43, 0, 1, 0),  # the contact lenses of Miyanaga in Tango 1998
        (5, 1, 0, 4), (5, 6, 0, 4), (5, 5, 0, 5), (20, 12, 3, 15), (90, 3, 3, 4), (80, 10, 2, 8), (60, 19, 11, 10),
        (268, 31, 0, 1), (250, 20, 20, 10), (700, 120, 90, 90), (0, 600, 400, 0), (8000, 900, 700, 400),
    ]
    differences = [(0.5, 1.0), (-3.6, 25.0), (0.01, 0.3), (10.0, 1.0), (166.0, 300.0), (1e-3, 1.0)]
    holm = [[0.01], [0.01, 0.04, 0.03, 0.005], [0.2, 0.2, 0.9], [1e-9, 1.0, 0.02, 0.02, 0.049], [0.5, 0.6]]
    print(json.dumps({
        "shares": [share(*case) for case in shares],
        "pairs": [pair(*case) for case in pairs],
        "numbers": [numbers(*case) for case in differences],
        "holm": [{"p": p, "adjusted": list(multipletests(p, method="holm")[1])} for p in holm],
    }))


if __name__ == "__main__":
    main()
