"""`make gpu`: does a GPU compute what a CPU does, how fast is it, and what does an epoch take?"""
