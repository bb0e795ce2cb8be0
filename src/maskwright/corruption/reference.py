"""What the kernels compute, said slowly in Python integers. Tests compare; nothing imports it."""

from __future__ import annotations

from fractions import Fraction

from maskwright import randomness
from maskwright.batch import TokenBatch
from maskwright.clock import Clock
from maskwright.corruption.masking import Masking
from maskwright.corruption.plan import Action


def key_of(run_key: int, sample_id: int, purpose: int) -> int:
    """`randomness.sample_keys`, for one sample."""
    return randomness.absorb(randomness.absorb(run_key, sample_id), purpose)


def plan(masking: Masking, batch: TokenBatch, clock: Clock) -> list[list[tuple[int, Action, int]]]:
    """For each sample, (position in it, action, replacement) of each selected token."""
    vocabulary = masking.bound
    assert not isinstance(masking.refresh, str)
    draw = masking.draw(batch, clock)
    run_key = randomness.run_key(clock.seed, masking.stream, masking.refresh.key(clock))
    assert draw.run_key == run_key
    samples = []
    for row, sample_id in enumerate(batch.sample_ids.tolist()):
        tokens = batch.tokens[row].tolist()
        protected = batch.protected[row] if batch.protected else [0] * len(tokens)
        candidates = [
            position
            for position, token in enumerate(tokens)
            if token not in vocabulary.special_ids and not protected[position]
        ]
        select = key_of(run_key, sample_id, randomness.SELECT)
        draws = {position: randomness.draw(select, position) for position in candidates}
        if masking.exact:
            u = randomness.draw(key_of(run_key, sample_id, randomness.ROUND), 0) >> 11
            m, u = len(candidates), float(Fraction(u, 1 << 53))
            k = min(m, int(float(draw.high[row] * m) + u))
            skipped = int(float(draw.low[row] * m) + u) if draw.low[row] else 0
            if draw.low[row]:
                skipped = max(skipped, min(m, masking.at_least))
            else:
                k = max(k, min(m, masking.at_least))
            chosen = sorted(sorted(candidates, key=lambda p: (draws[p], p))[skipped:k])
        else:
            low, high = (randomness.threshold(float(b[row])) for b in (draw.low, draw.high))
            chosen = [position for position in candidates if low <= draws[position] >> 11 < high]
        acts = key_of(run_key, sample_id, randomness.ACT)
        replaces = key_of(run_key, sample_id, randomness.REPLACE)
        sample = []
        for position in chosen:
            u = randomness.draw(acts, position) >> 11
            total, action = 0.0, Action.KEEP
            for share, act in masking.act.parts:
                if not share:
                    continue
                total += share
                action = act.code
                if u < randomness.threshold(total):
                    break
            if action is Action.MASK:
                token = vocabulary.require_mask()
            elif action is Action.RANDOM:
                u = randomness.draw(replaces, position) >> 32
                token = int(vocabulary.replacements[(u * len(vocabulary.replacements)) >> 32])
            else:
                token = tokens[position]
            sample.append((position, action, token))
        samples.append(sample)
    return samples
