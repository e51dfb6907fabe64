"""PromQL over the agents of the chosen job and topics.

An agent reads one topic, and only `crosyslog_agent_info` and the lag say which: everything else is
joined with the former, which leaves out the agents of other topics and adds the label.
"""

AGENTS = 'crosyslog_agent_info{job="$job", topic=~"$topic"}'

#: The one metric of ours that has the topic itself.
LAG = 'crosyslog_consumer_lag_lines{job="$job", topic=~"$topic"}'


def gauge(metric: str) -> str:
    """A gauge of the chosen agents, with the topic of each."""
    return _of_agents(f'{metric}{{job="$job"}}')


def rate(metric: str) -> str:
    """A counter's increase per second."""
    return _of_agents(f'rate({metric}{{job="$job"}}[$__rate_interval])')


def increase(metric: str, window: str = "$__rate_interval") -> str:
    """A counter's increase in a window of time."""
    return _of_agents(f'increase({metric}{{job="$job"}}[{window}])')


def total(values: str, *by: str) -> str:
    """The sum, for each value of the labels."""
    return f"sum{_by(by)}({values})"


def largest(values: str, *by: str) -> str:
    """The maximum, for each value of the labels."""
    return f"max{_by(by)}({values})"


def number(values: str, *by: str) -> str:
    """How many there are, for each value of the labels."""
    return f"count{_by(by)}({values})"


def share(part: str, whole: str, *by: str) -> str:
    """What a counter makes of another one; nothing where that one stands still."""
    return f"{total(rate(part), *by)} / {total(rate(whole), *by)}"


def mean(histogram: str, *by: str) -> str:
    """The mean of what a histogram has seen."""
    return share(f"{histogram}_sum", f"{histogram}_count", *by)


def quantile(which: float, histogram: str, *by: str) -> str:
    """A quantile of what a histogram has seen, read off its buckets."""
    return f"histogram_quantile({which:g}, {buckets(histogram, *by)})"


def buckets(histogram: str, *by: str) -> str:
    """A histogram's buckets, as increases per second."""
    return total(rate(f"{histogram}_bucket"), "le", *by)


def or_none(values: str, label: str) -> str:
    """The same, and 0 with "none" as the label where a counter has no value yet."""
    none = f'label_replace(0 * {number(AGENTS)}, "{label}", "none", "", "")'
    return f"{values} or on () {none}"


def _of_agents(values: str) -> str:
    return f"{values} * on (job, instance) group_left (topic) {AGENTS}"


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)}) " if labels else ""
