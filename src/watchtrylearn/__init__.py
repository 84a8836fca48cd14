"""Watch, try, learn: few-shot robot learning from one demonstration, own trials and yes or no."""
