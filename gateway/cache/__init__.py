"""The cache of answers: equal requests of one owner get the answer that the target gave to the first one."""
